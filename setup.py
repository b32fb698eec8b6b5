"""Builds the compiled half. Everything else about the package is in pyproject.toml.

For builds that tests use (tests/fuzz/engine_build.py puts them into directories of their own):
NATSC_SANITIZE=address,undefined  for the sanitizers
NATSC_COVERAGE=fuzzer             for coverage-guided fuzzing
NATSC_COVERAGE=lines              for gcov
NATSC_MODULES=engine,_core        only the modules whose names begin so
"""

import os
from glob import glob

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

# Every .pyx is a module, by its name below natsc.
modules = {
    path.removeprefix("natsc/").removesuffix(".pyx").replace("/", "."): path
    for path in sorted(glob("natsc/**/*.pyx", recursive=True))
}
if os.environ.get("NATSC_MODULES"):
    wanted = tuple(os.environ["NATSC_MODULES"].split(","))
    modules = {name: path for name, path in modules.items() if name.startswith(wanted)}

setup(
    ext_modules=cythonize(
        [
            Extension(f"natsc.{name}", [path], extra_compile_args=flags, extra_link_args=link)
            for name, path in modules.items()
        ],
        compiler_directives={"language_level": "3", "cdivision": True, "embedsignature": True},
    ),
)
