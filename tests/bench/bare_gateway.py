"""``python -m tests.bench.bare_gateway``: what a gateway cannot cost less than; prints its port.

A handler of aiohttp that reads a body, parses it with orjson, and produces it to Kafka with
aiokafka (acks=all): no signatures, no endpoints, no limits, no events.
"""

import argparse
import asyncio
import sys

import orjson
from aiohttp import web
from aiokafka import AIOKafkaProducer

ANSWER = b'{"Results":{}}'


async def serve(bootstrap: str, topic: str) -> None:
    """Serve until killed."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all")
    await producer.start()

    async def handle(request: web.Request) -> web.Response:
        body = await request.read()
        parsed = orjson.loads(body)
        key = next(iter(parsed["BatchItem"])).encode()
        await producer.send_and_wait(topic, body, key=key)
        return web.Response(status=202, body=ANSWER, content_type="application/json")

    app = web.Application(client_max_size=4 * 1024 * 1024)
    app.router.add_post("/v1/apps/{app}/events", handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    sys.stdout.write(f"{runner.addresses[0][1]}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


def main() -> None:
    """Read where Kafka is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--topic", required=True)
    args = parser.parse_args()
    asyncio.run(serve(args.bootstrap, args.topic))


if __name__ == "__main__":
    main()
