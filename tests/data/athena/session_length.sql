-- How long the sessions that ended on a day have taken, in seconds.
SELECT
  application.app_id app_id
, date_trunc('day', from_unixtime((event_timestamp / 1000))) AS day
, count(DISTINCT session['session_id']) sessions
, sum(CAST(session['stop_timestamp'] AS bigint) - CAST(session['start_timestamp'] AS bigint)) / 1000 AS seconds
FROM
  all_events
WHERE (event_type = '_session.stop')
GROUP BY 1, 2
ORDER BY 1, 2
