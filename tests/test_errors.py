import openai
import pytest

from chatlab import errors


@pytest.mark.parametrize(
    ("ours", "theirs", "status"),
    [
        (errors.BadRequestError, openai.BadRequestError, 400),
        (errors.ContextLengthError, openai.BadRequestError, 400),
        (errors.ModelNotFoundError, openai.NotFoundError, 404),
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


def test_other_errors_are_not_request_errors():
    assert not issubclass(errors.ModelFilesError, openai.OpenAIError)
