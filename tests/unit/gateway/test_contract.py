"""What an operation is called with shows no secret."""

from forwarder.config.gateway import App, AppAuth, CallerKey


def test_an_app_shows_none_of_its_secrets() -> None:
    app = App("a1", AppAuth.API_KEY, (CallerKey("AKIA1", "s3cret"),), ("k3y",))
    assert "s3cret" not in repr(app)
    assert "k3y" not in repr(app)
