-- SMS by what became of them, with what they carry of the campaign or journey they belong to.
SELECT
  attributes['record_status'] record_status
, attributes['iso_country_code'] iso_country_code
, CASE
    WHEN (attributes['campaign_id'] IS NOT NULL) THEN 'campaign'
    WHEN (attributes['journey_id'] IS NOT NULL) THEN 'journey'
    ELSE 'transactional'
  END type
, count(*) texts
, sum(metrics.price_in_millicents_usd) price_in_millicents_usd
FROM
  all_events
WHERE (event_type LIKE '\_SMS.%' ESCAPE '\')
GROUP BY 1, 2, 3
ORDER BY 1, 2, 3
