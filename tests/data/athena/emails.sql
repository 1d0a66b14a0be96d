-- E-mails by what became of them, with what their facets tell.
SELECT
  from_unixtime((event_timestamp / 1000)) event_timestamp
, client.client_id endpoint_id
, event_type
, facets.email_channel.mail_event.mail.message_id message_id
, from_unixtime((facets.email_channel.mail_event.mail.message_send_timestamp / 1000)) sent
, facets.email_channel.mail_event.mail.destination destination
, facets.email_channel.mail_event.mail.common_headers.subject subject
, facets.email_channel.mail_event.delivery.processing_time_millis processing_time_millis
, map_concat(COALESCE(client_context.custom, CAST(JSON '{}' AS map(varchar, varchar))), attributes) message_tags
FROM
  all_events
WHERE ((event_type LIKE '\_email.%' ESCAPE '\') AND (facets IS NOT NULL))
ORDER BY 1
