"""Builds the compiled half. Everything else about the package is in pyproject.toml.

For builds that tests use (tests/fuzz/engine_build.py puts them into directories of their own):
NATSC_SANITIZE=address,undefined  for the sanitizers
NATSC_COVERAGE=fuzzer             for coverage-guided fuzzing
NATSC_COVERAGE=lines              for gcov
NATSC_MODULES=engine,_core        only the modules whose names begin so
"""

import os

from Cython.Build import cythonize
from setuptools import Extension, setup

flags = ["-O3", "-fno-semantic-interposition", "-Wno-unused-function"]
link = []
coverage = os.environ.get("NATSC_COVERAGE")
if os.environ.get("NATSC_SANITIZE"):
    link = [f"-fsanitize={os.environ['NATSC_SANITIZE']}"]
    flags = ["-O1", "-g", "-fno-omit-frame-pointer", "-fno-sanitize-recover=undefined", *link]
elif coverage == "fuzzer":
    flags = ["-O1", "-g", "-fsanitize-coverage=trace-pc,trace-cmp"]
elif coverage == "lines":
    link = ["--coverage"]
    flags = ["-O0", *link]

MODULES = [
    "engine.buffer",
    "engine.timers",
    "engine.subject",
    "engine.sublist",
    "engine.permissions",
    "engine.parser",
    "engine.tail",
    "engine.hooks",
    "engine.account",
    "engine.deliver",
    "engine.client",
    "jetstream.lmdb",
    "jetstream.layout",
    "jetstream.seqset",
    "jetstream.subjectstate",
    "jetstream.checkpoint",
    "jetstream.msgstore",
    "jetstream.memstore",
    "jetstream.worker",
    "jetstream.store",
    "jetstream.filestore",
    "_core",
    "net.protocol",
    "jetstream.dedupe",
    "jetstream.expiry",
    "jetstream.headers",
    "jetstream.outbox",
    "jetstream.stream",
    "jetstream.ackstate",
    "jetstream.waiting",
    "jetstream.delivery",
    "jetstream.consumer_acks",
    "jetstream.consumer_pulls",
    "jetstream.consumer_setup",
    "jetstream.consumer",
]

if os.environ.get("NATSC_MODULES"):
    MODULES = [name for name in MODULES if name.startswith(tuple(os.environ["NATSC_MODULES"].split(",")))]

setup(
    ext_modules=cythonize(
        [
            Extension(
                f"natsc.{name}", [f"natsc/{name.replace('.', '/')}.pyx"], extra_compile_args=flags, extra_link_args=link
            )
            for name in MODULES
        ],
        compiler_directives={"language_level": "3", "cdivision": True, "embedsignature": True},
    ),
)
