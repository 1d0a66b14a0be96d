-- Daily revenue and paying users, of the _item_price and _quantity of purchases.
SELECT
  application.app_id app_id
, CAST(from_unixtime((event_timestamp / 1000)) AS date) AS day
, attributes['_currency'] currency
, sum(element_at(metrics, '_item_price') * COALESCE(element_at(metrics, '_quantity'), 1)) revenue
, count(DISTINCT client.client_id) paying_users
FROM
  app_events
WHERE (event_type = '_monetization.purchase')
GROUP BY 1, 2, 3
ORDER BY 1, 2, 3
