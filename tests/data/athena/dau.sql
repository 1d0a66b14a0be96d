-- Daily active users: the client_ids with a _session.start on a day.
SELECT
  application.app_id app_id
, CAST(from_unixtime((event_timestamp / 1000)) AS date) AS day
, count(DISTINCT client.client_id) users
FROM
  all_events
WHERE (event_type = '_session.start')
GROUP BY 1, 2
ORDER BY 1, 2
