"""Who is there: providers whose announcements were verified, and what they offer.

The signaling server may list one, the LAN, or both: each way says for itself who is
there. Pure but for the clock, and for `decide` and `vet`, which know the mesh.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from meshllm.dialects import Model
from meshllm.dialects.lists import full_name
from meshllm.errors import ConfigError, NotAllowed, TrustError
from meshllm.trust.admission import Admission
from meshllm.trust.announcement import Announcement, ModelCard
from meshllm.trust.grants import Role
from meshllm.trust.keys import PeerId, read_peer_id

PROVIDERS_MAX = 256
NAMES_MAX = 4_096

Way: TypeAlias = Literal["hub", "lan"]
"""How a provider was found: listed by the signaling server, or on the LAN (also where a
person named its address)."""


@dataclass(frozen=True, slots=True)
class Provider:
    """One provider as its verified announcement describes it."""

    announcement: Announcement
    admission: Admission
    models: tuple[Model, ...]

    @property
    def id(self) -> PeerId:
        return self.announcement.id

    @property
    def name(self) -> str:
        return self.admission.name


@dataclass(frozen=True, slots=True)
class Trust:
    """Whom the caller lets read its prompts (`--trust`). Itself always."""

    me: PeerId
    roles: frozenset[Role] = frozenset({Role.OWNER, Role.MEMBER})
    ids: frozenset[PeerId] = frozenset()

    @classmethod
    def parse(cls, words: Iterable[str], me: PeerId) -> Trust:
        """`owner`, `members`, or peer ids. ConfigError for anything else."""
        words = list(words) or ["members"]
        roles: set[Role] = set()
        for word in words:
            if word in ("owner", "members"):
                roles.add(Role.OWNER)
            if word == "members":
                roles.add(Role.MEMBER)
        ids = {_peer_id(w) for w in words if w not in ("owner", "members")}
        return cls(me, frozenset(roles), frozenset(ids))

    def covers(self, provider: Provider) -> bool:
        return (
            provider.id == self.me
            or provider.admission.role in self.roles
            or provider.id in self.ids
        )


def _peer_id(word: str) -> PeerId:
    try:
        return read_peer_id(word)
    except TrustError:
        raise ConfigError(
            f"--trust {word}: neither `owner`, `members` nor a whole peer id."
        ) from None


def no_more(admission: Admission) -> None:
    """Nothing to object to."""


class Roster:
    """Announcements by provider; an older one never replaces a newer. `vet` may object,
    by NotAllowed, to who is admitted."""

    def __init__(
        self,
        decide: Callable[[Sequence[str], PeerId], Admission],
        is_connected: Callable[[PeerId], bool],
        *,
        vet: Callable[[Admission], None] = no_more,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._decide = decide
        self._is_connected = is_connected
        self._vet = vet
        self._clock = clock
        self._providers: dict[PeerId, Provider] = {}
        self._ways: dict[PeerId, dict[Way, float]] = {}
        self._unlisted: set[PeerId] = set()  # by the server, but connected with us
        self._names: OrderedDict[str, None] = OrderedDict()  # of models seen, by age

    @property
    def providers(self) -> list[Provider]:
        return [p for p in self._providers.values() if self._is_there(p.id)]

    def get(self, id: PeerId) -> Provider | None:
        return self._providers.get(id) if self._is_there(id) else None

    def knows(self, model: str) -> bool:
        """Whether a model was offered since this node runs, though it may be by nobody
        now: its machine is off, or its model server is."""
        return full_name(model).lower() in self._names

    def found(self, id: PeerId) -> Mapping[Way, float]:
        """The ways it is found by now, and since when."""
        return self._ways.get(id, {})

    def put(self, token: str, way: Way = "hub") -> Provider | None:
        """None when the one we have is newer. MeshError: it does not hold."""
        announcement = Announcement.read(token)
        admission = self._decide(announcement.chain, announcement.id)
        if announcement.mesh != admission.mesh:
            raise NotAllowed("an announcement for another mesh")
        if admission.role is Role.GUEST:
            raise NotAllowed(f"{admission.name} may use models, not share any.")
        self._vet(admission)
        known = self._providers.get(announcement.id)
        if known and known.announcement.ts > announcement.ts:
            if known.announcement.conn == announcement.conn:
                self._note(announcement.id, way)
            return None
        if known is None and len(self._providers) >= PROVIDERS_MAX:
            raise NotAllowed(f"More than {PROVIDERS_MAX} providers in this mesh.")
        models = tuple(_model(card) for card in announcement.models)
        provider = Provider(announcement, admission, models)
        self._providers[provider.id] = provider
        if known and known.announcement.conn != announcement.conn:
            self._ways.pop(provider.id, None)  # of a process that is no more
        self._note(provider.id, way)
        self._remember(models)
        return provider

    def _note(self, id: PeerId, way: Way) -> None:
        self._ways.setdefault(id, {}).setdefault(way, self._clock())
        self._unlisted.discard(id)

    def _remember(self, models: Iterable[Model]) -> None:
        for model in models:
            name = full_name(model.name).lower()
            self._names[name] = None
            self._names.move_to_end(name)
        while len(self._names) > NAMES_MAX:
            self._names.popitem(last=False)

    def remove(self, id: PeerId, way: Way = "hub") -> bool:
        """This way does not find it any more. True when none does."""
        ways = self._ways.get(id, {})
        ways.pop(way, None)
        if ways:
            return False
        self._ways.pop(id, None)
        self._unlisted.discard(id)
        return self._providers.pop(id, None) is not None

    def begin_again(self) -> None:
        """The signaling server will put a new list. One that was restarted may not know
        everybody yet: whoever we are connected with stays until that ends."""
        for id in list(self._providers):
            ways = self._ways.setdefault(id, {})
            ways.pop("hub", None)
            if not ways and self._is_connected(id):
                self._unlisted.add(id)
            elif not ways:
                self.remove(id)

    def _is_there(self, id: PeerId) -> bool:
        return id not in self._unlisted or self._is_connected(id)


def _model(card: ModelCard) -> Model:
    return Model(
        name=card.name,
        digest=card.digest,
        size=card.size,
        modified_at=card.modified_at,
        details=card.details,
        capabilities=card.capabilities,
        context_length=card.context_length,
    )


def pinned(providers: Iterable[Provider], pin: str) -> list[Provider]:
    """Those a pin means: the exact name first, then the start of an id."""
    providers = list(providers)
    named = [p for p in providers if p.name.lower() == pin.lower()]
    return named or [p for p in providers if p.id.startswith(pin.lower())]
