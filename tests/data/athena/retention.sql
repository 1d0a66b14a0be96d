-- Retention: of the users active on a day, those who are active again one, three and seven days on.
WITH
  active AS (
   SELECT DISTINCT
     application.app_id app_id
   , client.client_id client_id
   , CAST(from_unixtime((event_timestamp / 1000)) AS date) AS day
   FROM
     all_events
   WHERE (event_type = '_session.start')
)
SELECT
  original.app_id app_id
, original.day AS day
, count(DISTINCT original.client_id) users
, count(DISTINCT CASE WHEN later.day = date_add('day', 1, original.day) THEN later.client_id END) day_1
, count(DISTINCT CASE WHEN later.day = date_add('day', 3, original.day) THEN later.client_id END) day_3
, count(DISTINCT CASE WHEN later.day = date_add('day', 7, original.day) THEN later.client_id END) day_7
FROM
  (active original
LEFT JOIN active later ON ((original.app_id = later.app_id) AND (original.client_id = later.client_id)))
GROUP BY 1, 2
ORDER BY 1, 2
