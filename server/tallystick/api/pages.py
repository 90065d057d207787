"""What every page that we send to a browser has in common."""


def page_headers(*allowed: str) -> dict[str, str]:
    """Headers of a page that may do what is allowed, and nothing else.

    ``allowed`` are directives of ``Content-Security-Policy``; each names only sources
    of our own.
    """
    never = (
        "default-src 'none'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
    return {
        "Content-Security-Policy": "; ".join((*never, *allowed)),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
    }
