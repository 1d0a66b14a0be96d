"""What an update of an endpoint became."""

from forwarder.gateway.endpoints.contract import Merged


def test_an_update_is_not_refused_unless_it_says_why() -> None:
    assert Merged(b"{}", changed=True).fault == ""
