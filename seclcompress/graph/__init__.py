"""Which layers of a network share their channels, and so can only be narrowed together.

Every channel is followed through one run without values (`following`, with `labels` on tensors and
`atoms` of channels that belong together), the atoms make groups (`channels`), and the groups are tried
(`trial`).
"""

from seclcompress.graph.channels import Channels, channel_groups
from seclcompress.graph.groups import Group, Member
from seclcompress.graph.removing import kept_by_layer, narrow_network, narrowed_widths, renumbered
from seclcompress.graph.trial import why_not_together

__all__ = [
    "Channels",
    "Group",
    "Member",
    "channel_groups",
    "kept_by_layer",
    "narrow_network",
    "narrowed_widths",
    "renumbered",
    "why_not_together",
]
