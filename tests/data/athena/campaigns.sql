-- What became of each campaign's messages.
SELECT
  attributes['campaign_id'] pinpoint_campaign_id
, event_type
, count(*) events
, count(DISTINCT client.client_id) endpoints
FROM
  all_events
WHERE (event_type LIKE '\_campaign.%' ESCAPE '\')
GROUP BY 1, 2
ORDER BY 1, 2
