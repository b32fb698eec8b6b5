"""The table of API errors and what is made of it."""

from __future__ import annotations

from natsc.jetstream import api_errors as errors
from natsc.jetstream.api_errors import ERRORS, ApiError, api_error


def test_all_numbers_are_there() -> None:
    assert sorted(ERRORS) == list(range(10002, 10228))


def test_each_number_has_one_name() -> None:
    named = [value for name, value in vars(errors).items() if name.isupper() and type(value) is int]
    assert sorted(named) == sorted(ERRORS)


def test_codes_are_those_of_http() -> None:
    assert {code for code, _ in ERRORS.values()} <= {400, 403, 404, 409, 412, 429, 500, 503}


def test_an_error_as_json() -> None:
    assert ApiError(errors.STREAM_NOT_FOUND).as_json() == {
        "code": 404,
        "err_code": 10059,
        "description": "stream not found",
    }


def test_placeholders_are_filled_in() -> None:
    assert ApiError(errors.SEQUENCE_NOT_FOUND, seq=7).description == "sequence 7 not found"


def test_values_are_not_templates() -> None:
    error = ApiError(errors.STREAM_EXTERNAL_DEL_PREFIX_OVERLAPS, prefix="{subject}", subject="x")
    assert error.description == "stream external delivery prefix {subject} overlaps with stream subject x"


def test_an_error_within_another_shows_its_number() -> None:
    inner = ApiError(errors.STREAM_NOT_FOUND)
    assert ApiError(errors.STREAM_CREATE, err=inner).description == "stream not found (10059)"


def test_an_api_error_is_never_wrapped() -> None:
    inner = ApiError(errors.STREAM_NOT_FOUND)
    assert api_error(errors.STREAM_CREATE, inner) is inner


def test_other_errors_are() -> None:
    assert api_error(errors.STREAM_CREATE, ValueError("no room")).as_json() == {
        "code": 500,
        "err_code": 10049,
        "description": "no room",
    }
