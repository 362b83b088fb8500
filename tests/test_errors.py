import httpx2
import openai
import pytest

from chatlab import errors


@pytest.mark.parametrize(
    ("ours", "theirs", "status"),
    [
        (errors.BadRequestError, openai.BadRequestError, 400),
        (errors.ContextLengthError, openai.BadRequestError, 400),
        (errors.AuthenticationError, openai.AuthenticationError, 401),
        (errors.PermissionDeniedError, openai.PermissionDeniedError, 403),
        (errors.NotFoundError, openai.NotFoundError, 404),
        (errors.ModelNotFoundError, openai.NotFoundError, 404),
        (errors.RateLimitError, openai.RateLimitError, 429),
        (errors.InternalServerError, openai.InternalServerError, 500),
    ],
)
def test_request_error_is_what_the_official_client_raises(ours, theirs, status):
    """The oracle is the client itself: what it makes of a server's answer with the same body."""
    error = ours("What to do.", param="messages[0].role")
    client = openai.OpenAI(api_key="none", base_url="http://chatlab.local/v1")
    from_server = client._make_status_error_from_response(error.response)
    assert type(from_server) is theirs
    assert isinstance(error, theirs) and isinstance(error, errors.ChatlabError)
    assert error.status_code == from_server.status_code == status
    for name in ("code", "param", "type", "body"):
        assert getattr(error, name) == getattr(from_server, name)


def test_message_is_the_text_a_learner_reads():
    assert str(errors.BadRequestError("Mend it.")) == "Mend it."


def test_errors_of_a_connection_are_the_clients_too():
    request = httpx2.Request("POST", "http://chatlab.local/v1")
    assert isinstance(errors.APIConnectionError("No.", request=request), openai.APIConnectionError)
    late = errors.APITimeoutError("Late.", request=request)
    assert isinstance(late, openai.APITimeoutError) and isinstance(late, errors.APIConnectionError)
    assert str(late) == late.message == "Late."


@pytest.mark.parametrize(("header", "seconds"), [("7", 7.0), ("0.5", 0.5), ("Fri, 31 Dec 1999", None), (None, None)])
def test_retry_after(header, seconds):
    headers = {} if header is None else {"Retry-After": header}
    answer = httpx2.Response(429, headers=headers, request=httpx2.Request("POST", "http://chatlab.local"))
    assert errors.RateLimitError("Wait.", response=answer).retry_after == seconds
    assert errors.RateLimitError("Wait.").retry_after is None


def test_other_errors_are_not_request_errors():
    assert not issubclass(errors.ModelFilesError, openai.OpenAIError)
