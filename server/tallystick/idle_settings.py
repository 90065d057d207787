"""Settings that are safe and have no effect, which somebody should know."""

from tallystick.config import Settings


def idle_settings(settings: Settings) -> list[str]:
    """Each names the setting, a colon, and what to do, as ``UnsafeSettings`` does."""
    is_left_out = settings.facilitator_url is not None
    has_use = (
        settings.facilitator_fallback or settings.act_as_facilitator or settings.permit2
    )
    if not settings.relayer_keys or not is_left_out or has_use:
        return []
    told = (
        "RELAYER_KEYS settle nothing, because FACILITATOR_URL settles everything: set"
        " FACILITATOR_FALLBACK=true to let them settle what it does not, or unset them."
    )
    return [told]
