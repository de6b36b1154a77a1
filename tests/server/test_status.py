from __future__ import annotations

import inspect

import grpc
import pytest
from google.rpc import error_details_pb2

from sessauth import Denied, errors
from sessauth.model.change import Rejection
from sessauth.server.status import CODES, WITHOUT_DETAIL, invalid, refused, to_status, word_of

# Raised by a client or an embedded verifier, never within the server's services.
NOT_THE_SERVERS = {errors.SessauthError, Denied, errors.UnknownTool, errors.ServerError, errors.Rejected} | {
    kind for kind in vars(errors).values() if inspect.isclass(kind) and issubclass(kind, errors.ServerError)
}
KINDS = [
    kind
    for kind in vars(errors).values()
    if inspect.isclass(kind) and issubclass(kind, errors.SessauthError) and kind not in NOT_THE_SERVERS
]


@pytest.mark.parametrize("word", [rejection.value for rejection in Rejection])
def test_each_rejection_of_the_log_has_a_code(word: str) -> None:
    """No word that the log can answer with ends as INTERNAL."""
    code, status = to_status(errors.Rejected(word, "session_id: because"))

    assert code is CODES[word]
    assert code not in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.OK)
    assert status.message == f"{word}: session_id: because"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_each_exception_of_the_package_has_a_word(kind: type[errors.SessauthError]) -> None:
    """An exception of ours is told by its own word, not as a fault of the server."""
    assert word_of(kind("message")) != "INTERNAL"


def test_details_carry_word_domain_and_field() -> None:
    """ErrorInfo says the word and our domain; BadRequest names the field, also that of a rejection."""
    for error, word, field in [
        (invalid("items[3].action", "is required"), "INVALID_ARGUMENT", "items[3].action"),
        (errors.Rejected("INVALID", "facts[2].name: too long"), "INVALID", "facts[2].name"),
        (errors.Rejected("ALREADY_ENDED", "the session has ended"), "ALREADY_ENDED", ""),
    ]:
        code, status = to_status(error)
        info, request = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        assert status.details[0].Unpack(info)
        assert (info.reason, info.domain) == (word, "sessauth")
        assert status.code == code.value[0]
        if field:
            assert status.details[1].Unpack(request)
            assert request.field_violations[0].field == field
        else:
            assert len(status.details) == 1


def test_faults_and_refusals_disclose_nothing() -> None:
    """Faults of the server, and of authentication, are sent without their texts."""
    secret = "/var/lib/secret"
    for error in [
        ValueError(secret),
        errors.KeyFolderError(secret),
        errors.StateUnusable(secret, "CORRUPT"),
        refused("UNAUTHENTICATED", secret),
        refused("PERMISSION_DENIED", secret),
    ]:
        _, status = to_status(error)
        assert secret not in str(status)
        assert status.message == WITHOUT_DETAIL[word_of(error)]


def test_no_token_leaves_in_a_message() -> None:
    """A message that holds something like a token or credential is cut there."""
    _, status = to_status(errors.MalformedToken("bad: sessauth_secret_AAAA.BBBB and more"))

    assert "AAAA" not in status.message
    assert "and more" in status.message
