"""Announcements as they come, by whichever way: into the roster, or stopped until a
person has said which key is a provider's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any

from meshllm.errors import MeshError
from meshllm.known import KeyChanged, KnownKeys
from meshllm.membership import Membership
from meshllm.node.reach import Run
from meshllm.routing.roster import Provider, Roster, Way
from meshllm.trust.admission import Admission
from meshllm.trust.keys import PeerId

log = logging.getLogger(__name__)

HOME_S = 3.0  # how soon we see what another process of this home did


class Register:
    """`roster` is to be filled through this only."""

    def __init__(
        self,
        decide: Callable[[Sequence[str], PeerId], Admission],
        is_connected: Callable[[PeerId], bool],
        known: KnownKeys,
        membership: Membership,
        run: Run,
    ) -> None:
        self.roster = Roster(decide, is_connected, vet=self._vet)
        self.known = known
        self._membership = membership
        self._run = run
        self._stopped: dict[PeerId, tuple[str, Way, KeyChanged]] = {}

    def put(self, token: str, way: Way) -> Provider | None:
        """KeyChanged is remembered until a person has said which key it is."""
        try:
            provider = self.roster.put(token, way)
        except KeyChanged as error:
            if not self._stopped:
                self._run(self._wait_for_word(), "stopped")
            self._stopped[error.id] = token, way, error
            raise
        if provider is not None:
            self._stopped.pop(provider.id, None)
        return provider

    def change(self, joined: Sequence[str], left: Sequence[PeerId]) -> list[PeerId]:
        """As the signaling server says; returns who was in the roster and left it."""
        for id in left:
            self._stopped.pop(id, None)
        gone = [id for id in left if self.roster.remove(id)]
        for token in joined:
            try:
                self.put(token, "hub")
            except MeshError as error:
                log.warning("an announcement was refused: %s", error)
        return gone

    async def _wait_for_word(self) -> None:
        while self._stopped:
            await asyncio.sleep(HOME_S)
            for id, (token, way, _) in list(self._stopped.items()):
                try:
                    self.put(token, way)
                except KeyChanged:
                    continue
                except MeshError:  # it may not share any more
                    self._stopped.pop(id, None)

    def stopped_rows(self) -> list[dict[str, Any]]:
        """For `meshllm peers`."""
        return [
            {
                "id": str(id),
                "name": error.name,
                "found": {way: None},
                "problem": str(error),
            }
            for id, (_, way, error) in self._stopped.items()
        ]

    def _vet(self, admission: Admission) -> None:
        self.known.vet(admission, self._membership.is_revoked)
