"""Who sends: devices of several applications, platforms and environments."""

import random
import uuid
from dataclasses import dataclass, field
from typing import Any

from mparticle import (
    ApplicationInformation,
    DeviceInformation,
    SourceInformation,
    UserIdentities,
)

LARGEST_ID = 2**63 - 1
NO_ID = "00000000-0000-0000-0000-000000000000"
"""What platforms say where they may not tell an advertising id."""
SHOP, TV, NEWS = "com.acme.shop", "com.acme.tv", "com.acme.news"

FLEET: tuple[tuple[str, str, int], ...] = (
    (SHOP, "iOS", 30),
    (SHOP, "Android", 30),
    (SHOP, "web", 10),
    (TV, "tvOS", 6),
    (TV, "roku", 6),
    (TV, "fire_tv", 4),
    (NEWS, "Android", 8),
    (NEWS, "out_of_band", 6),
)
"""(application, platform, share); out_of_band is a server that reports for its users."""

MODELS = {
    "iOS": ("Apple", "iPhone16,2"),
    "Android": ("Google", "Pixel 9"),
    "tvOS": ("Apple", "AppleTV14,1"),
    "roku": ("Roku", "Ultra 4850X"),
    "fire_tv": ("Amazon", "AFTKRT"),
}
CITIES = ((52.52, 13.405, "DE"), (40.7128, -74.006, "US"), (-33.8688, 151.2093, "AU"))


@dataclass
class Session:
    """One visit; ``number`` is the session_id, ``name`` the session_uuid."""

    number: int
    name: str
    started_ms: int


@dataclass
class Device:
    """One sender and what it remembers from one upload to the next.

    A ``shared`` one has no mpid, and two people take turns on it: ``user`` says who has it now.
    """

    name: str
    number: int
    application: str
    platform: str
    environment: str | None
    mpid: int | None
    mpid_as_text: bool
    mp_deviceid: str | None
    locates: bool
    home: tuple[float, float, str]
    shared: bool = False
    plain: bool = False
    user: int = 0
    session: Session | None = None
    left_open: Session | None = None
    earlier: Session | None = None
    launches: int = 0
    uploads: int = 0
    attributes: dict[str, Any] = field(default_factory=dict)

    @property
    def api_key(self) -> str:
        """Return the key of this application on this platform; a secret of the app."""
        return f"us1-{self.application.rpartition('.')[2]}-{self.platform.lower()}"

    @property
    def on_server(self) -> bool:
        """Tell whether a server reports in the user's name: no device, no sessions."""
        return self.platform == "out_of_band"


def int64(rng: random.Random) -> int:
    """Return an id as mParticle makes them: 64 bits, beyond 2**53, half of them negative."""
    return rng.choice((-1, 1)) * rng.randrange(2**53, LARGEST_ID)


def uuid4(rng: random.Random) -> str:
    """Return a UUID from the generator's own randomness."""
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))


def make_device(rng: random.Random, number: int, *, plain: bool = False) -> Device:
    """Return device ``number``; the fleet's shares hold for any hundred of them.

    A ``plain`` one has one user, and no id or session that means none.
    """
    application, platform = _place(number)
    anonymous = platform == "web" and number % 4 == 0
    shared = not plain and platform not in {"web", "out_of_band"} and number % 10 == 6
    return Device(
        name=f"device-{number:05d}",
        number=number,
        application=application,
        platform=platform,
        environment=("development" if number % 10 == 3 else (None, "production")[number % 2]),
        mpid=None if anonymous or shared else int64(rng),
        mpid_as_text=number % 4 == 1,
        mp_deviceid=None if platform in {"web", "out_of_band"} else uuid4(rng),
        locates=number % 5 < 2,  # two in five
        home=rng.choice(CITIES),
        shared=shared,
        plain=plain,
        attributes={"plan": rng.choice(("free", "plus")), "visits": 0, "newsletter": True},
    )


def _place(number: int) -> tuple[str, str]:
    # 37 and 100 share no factor: neighbours differ, and every hundred has all shares.
    slot = number * 37 % 100
    for application, platform, share in FLEET:
        if slot < share:
            return application, platform
        slot -= share
    raise AssertionError(slot)


def device_info(device: Device) -> DeviceInformation:
    """Return the SDK's description of the device."""
    brand, model = MODELS.get(device.platform, ("Mozilla", "Firefox"))
    info = DeviceInformation(
        brand=brand,
        device_model=model,
        device_manufacturer=brand,
        os_version="18.1" if brand == "Apple" else "15",
        screen_height=2556,
        screen_width=1179,
        device_country=device.home[2],
        locale_language="en",
        network_carrier="Example Mobile",
        timezone_offset=1,
        is_tablet=False,
    )
    info.platform = device.platform
    if device.platform == "Android":
        info.android_uuid = f"{device.number:016x}"
        info.android_advertising_id = NO_ID if device.number % 3 == 0 else None
    if device.platform == "iOS":
        info.ios_idfv = f"{device.number:08X}-0000-4000-8000-{device.number:012X}"
        info.ios_advertising_id = NO_ID
    return info


def application_info(device: Device) -> ApplicationInformation:
    """Return the SDK's description of the application."""
    name = device.application.rpartition(".")[2].title()
    return ApplicationInformation(
        application_name=f"Acme {name}", application_version="7.4.1", package=device.application
    )


def source_info(device: Device) -> SourceInformation:
    """Return the SDK's description of the way the upload took."""
    source = SourceInformation()
    channels = {"web": "javascript", "out_of_band": "server_to_server"}
    source.channel = channels.get(device.platform, "native")
    return source


def identities(device: Device) -> UserIdentities:
    """Return who the user is; the SDK spells ``customerid`` without an underscore."""
    who = f"{device.number}" if not device.user else f"{device.number}-{device.user}"
    return UserIdentities(customerid=f"customer-{who}", email=f"user{who}@example.com")
