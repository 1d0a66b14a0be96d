-- How often each event of an app was reported, and by how many users.
SELECT
  application.app_id app_id
, event_type
, count(*) events
, approx_distinct(client.client_id) users
FROM
  all_events
WHERE (NOT regexp_like(event_type, '^_(session|campaign|journey|SMS|email)\.'))
GROUP BY 1, 2
ORDER BY 1, 2
