"""Fixtures for the network tests."""

from __future__ import annotations

import pytest

from tests.certs import Authority


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certs"))
