"""Builds the compiled half. Everything else about the package is in pyproject.toml."""

import os

from Cython.Build import cythonize
from setuptools import Extension, setup

# NATSC_SANITIZE=address,undefined builds for the sanitizers; NATSC_COVERAGE=1 for coverage-guided fuzzing.
flags = ["-O3", "-fno-semantic-interposition", "-Wno-unused-function"]
link = []
if os.environ.get("NATSC_SANITIZE"):
    flags = ["-O1", "-g", "-fno-omit-frame-pointer", f"-fsanitize={os.environ['NATSC_SANITIZE']}"]
    link = [f"-fsanitize={os.environ['NATSC_SANITIZE']}"]

MODULES = [
    "engine.buffer", "engine.timers", "engine.subject", "engine.sublist", "engine.permissions", "engine.parser",
    "engine.hooks", "engine.account", "engine.deliver", "engine.client", "_core", "net.protocol",
]

setup(
    ext_modules=cythonize(
        [
            Extension(f"natsc.{name}", [f"natsc/{name.replace('.', '/')}.pyx"], extra_compile_args=flags,
                      extra_link_args=link)
            for name in MODULES
        ],
        compiler_directives={"language_level": "3", "cdivision": True, "embedsignature": True},
    ),
)
