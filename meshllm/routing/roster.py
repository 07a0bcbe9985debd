"""Who is there: providers whose announcements were verified, and what they offer.

Pure but for `decide`, which knows the mesh's newest statement and revocations.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from meshllm.dialects import Model
from meshllm.dialects.lists import full_name
from meshllm.errors import ConfigError, NotAllowed, TrustError
from meshllm.trust.admission import Admission
from meshllm.trust.announcement import Announcement, ModelCard
from meshllm.trust.grants import Role
from meshllm.trust.keys import PeerId, read_peer_id

PROVIDERS_MAX = 256
NAMES_MAX = 4_096


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


class Roster:
    """Announcements by provider; an older one never replaces a newer."""

    def __init__(
        self,
        decide: Callable[[Sequence[str], PeerId], Admission],
        is_connected: Callable[[PeerId], bool],
    ) -> None:
        self._decide = decide
        self._is_connected = is_connected
        self._providers: dict[PeerId, Provider] = {}
        self._unlisted: set[PeerId] = set()
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

    def put(self, token: str) -> Provider | None:
        """None when the one we have is newer. MeshError: it does not hold."""
        announcement = Announcement.read(token)
        admission = self._decide(announcement.chain, announcement.id)
        if announcement.mesh != admission.mesh:
            raise NotAllowed("an announcement for another mesh")
        if admission.role is Role.GUEST:
            raise NotAllowed(f"{admission.name} may use models, not share any.")
        known = self._providers.get(announcement.id)
        if known and known.announcement.ts > announcement.ts:
            return None
        if known is None and len(self._providers) >= PROVIDERS_MAX:
            raise NotAllowed(f"More than {PROVIDERS_MAX} providers in this mesh.")
        models = tuple(_model(card) for card in announcement.models)
        provider = Provider(announcement, admission, models)
        self._providers[provider.id] = provider
        self._unlisted.discard(provider.id)
        self._remember(models)
        return provider

    def _remember(self, models: Iterable[Model]) -> None:
        for model in models:
            name = full_name(model.name).lower()
            self._names[name] = None
            self._names.move_to_end(name)
        while len(self._names) > NAMES_MAX:
            self._names.popitem(last=False)

    def remove(self, id: PeerId) -> None:
        self._providers.pop(id, None)
        self._unlisted.discard(id)

    def begin_again(self) -> None:
        """A new list will be put. A signaling server that was restarted may not know
        everybody yet: whoever we are connected with stays until that ends."""
        self._unlisted = {id for id in self._providers if self._is_connected(id)}
        self._providers = {id: self._providers[id] for id in self._unlisted}

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
