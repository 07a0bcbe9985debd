"""What a signaling server passes on of the mesh: statements, revocations, cards and
memberships. It may be anything; each holds by its own signature.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from meshllm.errors import MeshError
from meshllm.identity import Identity
from meshllm.membership import Membership
from meshllm.node.reach import Reach, Run
from meshllm.node.sharing import Sharing

log = logging.getLogger(__name__)


class Learning:
    def __init__(
        self,
        identity: Identity,
        membership: Membership,
        reach: Reach,
        sharing: Sharing,
        run: Run,
    ) -> None:
        self._identity = identity
        self._membership = membership
        self._reach = reach
        self._sharing = sharing
        self._run = run

    def on_statement(self, token: str) -> None:
        self._learn("statement", self._membership.newer_statement, token)

    def on_revocations(self, token: str) -> None:
        self._learn("list of revocations", self._membership.newer_revocations, token)
        self._sharing.recheck()

    def on_card(self, chain: tuple[str, ...], conflict: bool) -> None:
        """We issued this ticket: give its bearer a membership, at once."""
        if conflict:
            # The server says so again at each login: `share` tells, `chat` does not.
            log.log(
                logging.WARNING if self._sharing.host is not None else logging.INFO,
                "a ticket of ours was used by a second node, which was refused: "
                "somebody else has the link",
            )
            return
        self._learn("card", self._issue, chain)

    def on_membership(self, token: str, statement: str) -> None:
        def accept(token: str) -> None:
            now = int(time.time())
            self._membership.accept(token, statement, now)
            role = self._membership.admission(now).role
            log.info("this node is now %s", role.value)
            self._sharing.announce_soon()

        self._learn("membership", accept, token)

    def _issue(self, chain: tuple[str, ...]) -> None:
        token = self._membership.issue(self._identity, chain, int(time.time()))
        self._run(self._grant(token), "grant")

    async def _grant(self, token: str) -> None:
        assert self._reach.signaling is not None
        try:
            await self._reach.signaling.grant(token)
        except MeshError as error:
            log.warning("a membership could not be handed over: %s", error)

    def _learn(self, what: str, take: Callable[[Any], object], value: object) -> None:
        try:
            take(value)
        except MeshError as error:
            log.warning("a %s was refused: %s", what, error)
