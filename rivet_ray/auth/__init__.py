"""Who a caller is: tokens and API keys, for `on_auth` (floor 4).

    tokens = JWT(JWKS("https://id.example.com/.well-known/jwks.json"),
                 algorithms=["RS256"], audience="chat")

    class ChatRoom(Actor[ChatState]):
        @classmethod
        async def on_auth(cls, request, params, intents):
            return await tokens.authenticate(request, params)

A caller who shows nothing good gets `Unauthorized`, one who may not do this
`Forbidden`; both say why in `metadata["reason"]`, a word of `Reason`. Nothing
here blocks the event loop. `JWT` and `JWKS` need `pip install 'rivet-ray[auth]'`.
"""

from typing import TYPE_CHECKING, Any

from rivet_ray.auth.api_keys import APIKeys, hash_api_key, new_api_key
from rivet_ray.auth.credentials import Reason, cookie_of, find_credential
from rivet_ray.auth.permissions import require_origin, require_scopes

if TYPE_CHECKING:
    from rivet_ray.auth.jwks import JWKS
    from rivet_ray.auth.tokens import JWT

__all__ = [
    "JWKS",
    "JWT",
    "APIKeys",
    "Reason",
    "cookie_of",
    "find_credential",
    "hash_api_key",
    "new_api_key",
    "require_origin",
    "require_scopes",
]


def __getattr__(name: str) -> Any:
    if name not in ("JWKS", "JWT"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from rivet_ray.auth import jwks, tokens
    except ModuleNotFoundError as error:
        if error.name not in ("cryptography", "jwt"):
            raise
        raise ImportError(f"{name} needs PyJWT; pip install 'rivet-ray[auth]'") from error
    return tokens.JWT if name == "JWT" else jwks.JWKS
