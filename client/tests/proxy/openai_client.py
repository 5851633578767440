"""The package `openai` as it is, against `cloister proxy`: what it is given and what it makes of errors."""

import sys

import openai

BASE_URL, REFUSING = sys.argv[1:3]
HELLO = [{"role": "user", "content": "good day"}]


def client(key="secret", base_url=BASE_URL):
    return openai.OpenAI(base_url=base_url, api_key=key, timeout=60)


def error_of(kind, call):
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}")


def whole():
    answer = client().chat.completions.create(model="any", messages=HELLO, max_tokens=20)
    assert answer.choices[0].message.content == "You said: good day", answer
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == 7


def streamed():
    words, reasons = [], []
    for chunk in client().chat.completions.create(model="any", messages=HELLO, stream=True):
        words.append(chunk.choices[0].delta.content or "")
        reasons.append(chunk.choices[0].finish_reason)
    assert "".join(words) == "You said: good day", words
    assert len([word for word in words if word]) == 4, words
    assert reasons[-1] == "stop", reasons


def models():
    assert [model.id for model in client().models.list()] == ["fake"]
    assert client().models.retrieve("fake").id == "fake"
    error_of(openai.NotFoundError, lambda: client().models.retrieve("other"))


def errors():
    wrong = error_of(
        openai.UnprocessableEntityError,
        lambda: client().chat.completions.create(model="any", messages=[]),
    )
    assert wrong.body["message"] == "there is no message" and wrong.body["param"] == "messages", wrong.body
    key = error_of(openai.AuthenticationError, lambda: client("other").models.list())
    assert key.code == "invalid_api_key", key
    cut = error_of(openai.APIError, lambda: list(stream("cut")))
    assert "cut short" in cut.message, cut


def stream(said):
    messages = [{"role": "user", "content": said}]
    return client().chat.completions.create(model="any", messages=messages, stream=True)


def refused():
    error = error_of(
        openai.InternalServerError,
        lambda: client(base_url=REFUSING).chat.completions.create(model="any", messages=HELLO),
    )
    assert error.status_code == 502 and error.code == "nonce" and error.type == "attestation_error", error
    assert "does not repeat the nonce" in error.message, error


def cancelled():
    events = stream("forever")
    next(iter(events))
    events.close()


for test in [whole, streamed, models, errors, refused, cancelled]:
    test()
    print(f"openai {openai.__version__}: {test.__name__}")
print("all as expected")
