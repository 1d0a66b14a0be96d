-- New users: the client_ids whose first _session.start was on a day.
WITH
  first_seen AS (
   SELECT
     application.app_id app_id
   , client.client_id client_id
   , min(event_timestamp) event_timestamp
   FROM
     all_events
   WHERE (event_type = '_session.start')
   GROUP BY 1, 2
)
SELECT
  app_id
, CAST(from_unixtime((event_timestamp / 1000)) AS date) AS day
, count(*) users
FROM
  first_seen
GROUP BY 1, 2
ORDER BY 1, 2
