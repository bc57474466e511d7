"""How scores are blended and which strategy is the default: chosen on validation."""

from offline.blend.choose import Blend, choose

__all__ = ["Blend", "choose"]
