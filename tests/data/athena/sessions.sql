-- Sessions: the _session.start events of a day, by platform.
SELECT
  application.app_id app_id
, date_format(from_unixtime((event_timestamp / 1000)), '%Y-%m-%d') AS day
, device.platform['name'] platform
, count(*) sessions
FROM
  all_events
WHERE (event_type = '_session.start')
GROUP BY 1, 2, 3
ORDER BY 1, 2, 3
