"""`meshllm identity`: who this node is, to tell somebody else."""

from __future__ import annotations

from meshllm.cli.common import Common, command, pass_common


@command("identity")
@pass_common
def identity(common: Common) -> None:
    """Show this node's peer id and key file.

    The keys are made on first use.
    """
    from meshllm.identity import IDENTITY_FILE, Identity

    found = Identity.load_or_create(common.home)
    path = common.home / IDENTITY_FILE
    common.tell(f"{found.id}\n{path}", {"id": found.id, "key_file": str(path)})
    common.hint("meshllm status")
