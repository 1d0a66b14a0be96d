"""Who there is: roots of accounts, users, roles and the sessions that were handed out."""

import random
from typing import NamedTuple

import msgspec

from tests.fake_aws.errors import ACCESS_DENIED, UNRECOGNIZED_CLIENT, AwsError
from tests.fake_aws.policy import Document, allow, allows, root_arn

HOME_ACCOUNT = "000000000000"
CUSTOMER_ACCOUNT = "111122223333"
ROOT_SECRET = "test"
ROOT_KEY = "test"
"""Of the home account; the number of an account is an access key of its root too."""

EVERYTHING = allow(["*"])
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"


class Keys(NamedTuple):
    """Access keys of a person."""

    access_key_id: str
    secret_access_key: str


class Identity(msgspec.Struct):
    """Somebody who can be allowed something."""

    arn: str
    account: str
    policy: Document = msgspec.field(default_factory=lambda: EVERYTHING)


class Role(Identity):
    """Somebody whom others can become; no session lasts longer than ``longest`` seconds."""

    trust: Document = {}
    longest: int = 3600


class Login(msgspec.Struct):
    """What belongs to an access key; ``worker`` is the key that the caller began with.

    ``issued`` and ``expires`` in wall-clock seconds; neither of keys that last.
    """

    key: str
    secret: str
    identity: Identity
    arn: str
    worker: str
    token: str | None = None
    issued: float = 0.0
    expires: float | None = None

    @property
    def meanings(self) -> tuple[str, ...]:
        """Return every ARN that names the caller in a trust policy."""
        return self.arn, self.identity.arn, root_arn(self.identity.account)


class Accounts:
    """All identities, by ARN, and all access keys."""

    def __init__(self, dice: random.Random, stranger_secret: str | None = None) -> None:
        """Begin with the roots; any access key with ``stranger_secret`` is the home root's."""
        self._dice = dice
        self._stranger_secret = stranger_secret
        self.roles: dict[str, Role] = {}
        self.users: dict[str, Identity] = {}
        self.logins: dict[str, Login] = {}
        self.sessions = 0

    def make_role(
        self, name: str, account: str, policy: Document, trusted: Document, longest: int = 3600
    ) -> Role:
        """Make a role, or make it anew."""
        arn = f"arn:aws:iam::{account}:role/{name}"
        self.roles[arn] = Role(arn, account, policy, trusted, longest)
        return self.roles[arn]

    def make_user(
        self, name: str, account: str, policy: Document, keys: Keys | None = None
    ) -> Keys:
        """Make a user with access keys: these, or new ones."""
        user = Identity(f"arn:aws:iam::{account}:user/{name}", account, policy)
        self.users[user.arn] = user
        return self.make_keys(user, keys)

    def make_keys(self, user: Identity, keys: Keys | None = None) -> Keys:
        """Make a pair of access keys for a user, or take these."""
        keys = keys or Keys("AKIA" + self._letters(16), self._letters(40).lower())
        login = Login(*keys, user, user.arn, keys.access_key_id)
        self.logins[keys.access_key_id] = login
        return keys

    def make_session(self, who: Login, role: Role, name: str, now: float, seconds: float) -> Login:
        """Hand out temporary keys of a role, to somebody who may have them."""
        self.sessions += 1
        short = role.arn.partition(":role/")[2].rpartition("/")[2]
        arn = f"arn:aws:sts::{role.account}:assumed-role/{short}/{name}"
        key = "ASIA" + self._letters(16)
        secret, token = self._letters(40).lower(), "FwoGZXIvYXdz" + self._letters(200)
        login = Login(key, secret, role, arn, who.worker, token, now, now + seconds)
        self.logins[key] = login
        return login

    def find(self, key: str) -> Login:
        """Return what belongs to an access key; raises AwsError if nothing does."""
        found = self.logins.get(key)
        if found is None:
            found = self.logins[key] = self._stranger(key)
        return found

    def authorize(self, who: Login, action: str, resource: str) -> None:
        """Refuse what the caller's policy does not allow."""
        if not allows(who.identity.policy, action, resource):
            text = f"User: {who.arn} is not authorized to perform: {action} on resource: {resource}"
            raise AwsError(ACCESS_DENIED, f"{text} because no policy allows it")

    def _stranger(self, key: str) -> Login:
        account = HOME_ACCOUNT if key == ROOT_KEY else key
        secret = ROOT_SECRET
        if not (account.isdigit() and len(account) == len(HOME_ACCOUNT)):
            if self._stranger_secret is None:
                raise AwsError(UNRECOGNIZED_CLIENT)
            account, secret = HOME_ACCOUNT, self._stranger_secret
        root = Identity(root_arn(account), account)
        return Login(key, secret, root, root.arn, key)

    def _letters(self, count: int) -> str:
        return "".join(self._dice.choices(_LETTERS, k=count))
