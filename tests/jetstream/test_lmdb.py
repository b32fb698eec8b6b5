"""Finding LMDB's functions."""

import pytest

from natsc.jetstream import lmdb


def test_the_lmdb_package_brings_an_0_9():
    assert lmdb.package_libraries()
    assert lmdb.version()[:2] == (0, 9)


def test_loading_twice_is_harmless():
    lmdb.load()
    lmdb.load()


def test_an_error_says_what_was_tried():
    try:
        with pytest.raises(ImportError, match=r"needs LMDB 0\.9.*'lmdb'.*/no/such\.so"):
            lmdb.load(["/no/such.so"])
    finally:
        lmdb.load()


def test_a_library_without_lmdb_is_an_error(tmp_path):
    from natsc.jetstream import layout

    try:
        with pytest.raises(ImportError, match="no mdb_version"):
            lmdb.load([layout.__file__])
    finally:
        lmdb.load()
