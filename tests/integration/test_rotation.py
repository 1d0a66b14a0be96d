"""Access keys are rotated under a sink that goes on."""

from pathlib import Path

from forwarder.aws.credentials import RENEW_SECONDS
from forwarder.aws.session import AwsSession
from forwarder.aws.static_keys import KeyRotation
from forwarder.clock import SystemClock
from forwarder.config.key_rotation import reread_keys
from forwarder.config.loader import load_connection
from forwarder.config.targets import KinesisTarget
from forwarder.model import OutcomeKind
from forwarder.ops import logs
from forwarder.sinks.kinesis import KinesisSink
from tests.services.fake_kinesis import LOADER, batch
from tests.services.ministack import HOME_ACCOUNT, REGION, Keys, MiniStack

FILE = """\
name: acme
credentials: {{access_key_id: "${{file:id}}", secret_access_key: "${{file:secret}}"}}
sink: {{type: kinesis, stream_name: rotated, region: {region}, endpoint_url: "{url}"}}
"""


def store(folder: Path, keys: Keys) -> None:
    (folder / "id").write_text(keys.access_key_id)
    (folder / "secret").write_text(keys.secret_access_key)


class Ahead(SystemClock):
    """The machine's clock, and what the test does not wait for."""

    ahead = 0.0

    def steady(self) -> float:
        return super().steady() + self.ahead


async def delivered(sink: KinesisSink, number: int) -> bool:
    [outcome] = await sink.put([batch(number)])
    return outcome.kind is OutcomeKind.DELIVERED


async def test_keys_are_rotated_and_the_old_ones_deleted_without_a_restart(
    ministack: MiniStack, tmp_path: Path
) -> None:
    old = ministack.make_user("rotated", account=HOME_ACCOUNT)
    ministack.make_stream("rotated", account=HOME_ACCOUNT)
    store(tmp_path, old)
    file = tmp_path / "acme.yaml"
    file.write_text(FILE.format(region=REGION, url=ministack.endpoint()))
    connection = load_connection(file).connection
    assert isinstance(connection.sink, KinesisTarget)
    clock = Ahead()
    aws = AwsSession(clock, LOADER, KeyRotation(reread_keys, logs.hide))
    sink = KinesisSink(connection, connection.sink, aws)
    assert await delivered(sink, 1)

    iam = ministack.client("iam")
    made = iam.create_access_key(UserName="rotated")["AccessKey"]
    iam.delete_access_key(UserName="rotated", AccessKeyId=old.access_key_id)
    assert not await delivered(sink, 2), "the old key is dead, and the new one is nowhere yet"
    store(tmp_path, Keys(made["AccessKeyId"], made["SecretAccessKey"]))
    clock.ahead += RENEW_SECONDS
    assert await delivered(sink, 2)

    await sink.close()
    await aws.close()
    stored = [record.value for record in ministack.read("rotated", HOME_ACCOUNT)]
    assert [b'{"number":1}', b'{"number":2}'] == sorted(stored)
