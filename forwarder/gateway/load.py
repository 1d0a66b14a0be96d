"""What all requests together take, and the bounds of it."""

from forwarder.config.gateway import GatewayLimits


class RequestLoad:
    """Counts requests under way and bytes held. One for a gateway; all calls from its loop."""

    def __init__(self, limits: GatewayLimits) -> None:
        """Begin with nothing."""
        self.under_way = 0
        self.buffered = 0
        self._requests = limits.concurrent_requests
        self._bytes = limits.buffered_bytes

    def begin(self) -> bool:
        """Count one more request to be carried out; False: there are as many as may be."""
        if self.under_way >= self._requests:
            return False
        self.under_way += 1
        return True

    def end(self) -> None:
        """Count one less."""
        self.under_way -= 1

    def take(self, count: int) -> bool:
        """Count bytes that are held from now on; False: there is no room, nothing is counted."""
        if self.buffered + count > self._bytes:
            return False
        self.buffered += count
        return True

    def give_back(self, count: int) -> None:
        """Count bytes that are held no more."""
        self.buffered -= count

    def is_full(self) -> bool:
        """Tell whether a request of the size of a hundredth of all would find no room."""
        return self.buffered > self._bytes - self._bytes // 100
