import asyncio

from structlog.testing import capture_logs

from forwarder.errors import ForwarderError
from forwarder.gateway import readiness
from forwarder.ops.gateway_health import GatewayHealth
from forwarder.ops.gateway_metrics import GatewayMetrics
from forwarder.ops.gateway_report import GatewayReport
from tests.doubles import LoopClock, run_virtually


class Need:
    """Something that answers, does not, or is silent."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.silent = False
        self.asked = 0

    async def check(self) -> None:
        self.asked += 1
        if self.silent:
            await asyncio.Event().wait()
        if self.error is not None:
            raise self.error


def made(*needs: str) -> tuple[GatewayHealth, list[bool]]:
    full = [False]
    return GatewayHealth(LoopClock(), needs, lambda: full[0]), full


def test_it_is_ready_once_it_listens_and_all_it_needs_answers() -> None:
    async def main() -> None:
        health, full = made("kafka", "endpoints")
        assert health.alive()
        assert not health.ready()
        health.listens()
        health.answers("kafka")
        assert not health.ready()
        assert "not been asked" in health.described()["endpoints"]["reason"]
        health.answers("endpoints")
        assert health.ready()
        full[0] = True
        assert not health.ready()
        assert "buffered_bytes" in health.described()["reason"]
        full[0] = False
        health.fails("kafka", "nobody answers", "start a broker")
        assert not health.ready()
        told = health.described()["kafka"]
        assert ("waiting", "nobody answers") == (told["state"], told["reason"])
        assert told["remedy"].startswith("start a broker")
        health.answers("kafka")
        health.drains()
        assert not health.ready()
        assert health.described()["draining"]

    run_virtually(main())


def test_news_are_news_once_and_a_state_lasts_since_it_began() -> None:
    async def main() -> None:
        health, _ = made("kafka")
        assert health.fails("kafka", "a", "")
        since = health.described()["kafka"]["since"]
        await asyncio.sleep(10)
        assert not health.fails("kafka", "a", "")
        assert health.fails("kafka", "b", "")
        assert since == health.described()["kafka"]["since"]
        assert health.answers("kafka")
        assert not health.answers("kafka")
        assert since != health.described()["kafka"]["since"]

    run_virtually(main())


def test_a_loop_that_stands_still_is_not_alive() -> None:
    async def main() -> None:
        health, _ = made()
        await asyncio.sleep(31)
        assert not health.alive()
        health.heartbeat()
        assert health.alive()

    run_virtually(main())


def test_what_is_needed_is_asked_again_and_again_and_one_that_is_silent_holds_up_no_other() -> None:
    async def main() -> None:
        health, _ = made("kafka", "endpoints")
        kafka, endpoints = Need(), Need()
        endpoints.silent = True
        with capture_logs() as logs:
            asking = asyncio.create_task(
                readiness.run({"kafka": kafka, "endpoints": endpoints}, health)
            )
            await asyncio.sleep(20)
            kafka.error = ForwarderError("it is down", "start it")
            await asyncio.sleep(20)
            kafka.error, endpoints.silent = None, False
            await asyncio.sleep(20)
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
        assert kafka.asked > 25
        said = [(line["event"], line["dependency"]) for line in logs]
        assert [
            ("dependency.answers", "kafka"),
            ("dependency.fails", "endpoints"),
            ("dependency.fails", "kafka"),
        ] == said[:3]
        assert {("dependency.answers", "kafka"), ("dependency.answers", "endpoints")} == {*said[3:]}
        health.listens()
        assert health.ready()

    run_virtually(main())


def test_the_report_beats_and_measures_and_says_once_why_kafka_takes_nothing() -> None:
    async def main() -> None:
        clock = LoopClock()
        health = GatewayHealth(clock, (), lambda: False)
        report = GatewayReport(GatewayMetrics("1"), health, clock)
        measured: list[float] = []
        beating = asyncio.create_task(report.run_heartbeat(lambda: measured.append(clock.steady())))
        await asyncio.sleep(10.5)
        beating.cancel()
        assert 10 == len(measured)
        assert health.heartbeat_age() < 1
        with capture_logs() as logs:
            for _ in range(5):
                report.producer_failed("no broker", "start one")
            report.producer_started()
        assert ["producer.failed", "producer.started"] == [line["event"] for line in logs]
        failures = "forwarder_gateway_producer_failures_total"
        assert 5 == report.metrics.registry.get_sample_value(failures)

    run_virtually(main())
