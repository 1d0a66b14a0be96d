-- A journey's events with what its endpoint says of itself: a string of JSON in client_context.
SELECT
  event_type
, from_unixtime((event_timestamp / 1000)) event_timestamp
, client.client_id endpoint_id
, attributes['journey_id'] journey_id
, attributes['journey_run_id'] journey_run_id
, json_extract_scalar(client_context.custom['endpoint'], '$.ChannelType') channel_type
, json_extract_scalar(client_context.custom['endpoint'], '$.Address') address
, json_extract_scalar(client_context.custom['endpoint'], '$.Demographic.Platform') platform
, awsaccountid aws_account_id
, metrics.price_in_millicents_usd price_in_millicents_usd
FROM
  all_events
WHERE (event_type LIKE '\_journey.%' ESCAPE '\')
ORDER BY 2, 3, 1
