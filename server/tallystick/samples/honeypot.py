"""Could those who bought the token sell it again?"""

from typing import Literal, TypedDict

from tallystick.samples.context import FeatureContext, show_address
from tallystick.samples.contract import read_contract
from tallystick.samples.trades import recent_transfers, try_resales

Verdict = Literal["not_a_token", "unknown", "clear", "suspicious", "honeypot"]


class HoneypotReport(TypedDict):
    """The verdict, and on how many rehearsed resales it rests.

    ``suspicious``: some receivers are stuck, or all of them while it is paused.
    """

    token: str
    verdict: Verdict
    holders_tried: int
    holders_stuck: int
    blocks_searched: int
    notes: list[str]


async def check_honeypot(context: FeatureContext, token: bytes) -> HoneypotReport:
    """Rehearse resales by the token's latest receivers; raises ``RpcUnavailable``."""
    facts = await read_contract(context.chain, token)
    report = HoneypotReport(
        token=show_address(token),
        verdict="not_a_token",
        holders_tried=0,
        holders_stuck=0,
        blocks_searched=0,
        notes=facts.notes,
    )
    if not facts.is_token:
        return report
    window = await recent_transfers(context, token)
    resales = await try_resales(context, token, window)
    stuck = sum(not resale.succeeded for resale in resales)
    if not resales:
        report["notes"].append("Nobody received it lately, so no sale was rehearsed.")
    if facts.is_paused:
        report["notes"].append("It is paused now: nobody can transfer.")
    report["verdict"] = _verdict(len(resales), stuck, is_paused=bool(facts.is_paused))
    report["holders_tried"], report["holders_stuck"] = len(resales), stuck
    report["blocks_searched"] = window.blocks
    return report


def _verdict(tried: int, stuck: int, *, is_paused: bool) -> Verdict:
    if not tried:
        return "unknown"
    if not stuck:
        return "clear"
    return "honeypot" if stuck == tried and not is_paused else "suspicious"
