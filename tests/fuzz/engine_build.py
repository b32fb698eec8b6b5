"""Builds the compiled modules into a directory of their own: for sanitizers, coverage and mutants.

    python tests/fuzz/engine_build.py sanitize --test     build with -fsanitize=address,undefined and pass tests/engine
    python tests/fuzz/engine_build.py lines --test        build for gcov; which lines of the engine tests/engine reach
    python tests/fuzz/engine_build.py fuzzer              build for tests/fuzz/atheris_engine.py

A build has the modules of the core protocol, lies in build/variants/<name> (or --into), is a copy of natsc/ as it
stands, and is made again only where a source changed. It is used by having that directory first on PYTHONPATH, and as
the working directory of `python -m`.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VARIANTS = ROOT / "build" / "variants"
MODULES = "engine.,_core,net."
ENVIRONMENTS = {
    "plain": {},
    "sanitize": {"NATSC_SANITIZE": "address,undefined"},
    "lines": {"NATSC_COVERAGE": "lines"},
    "fuzzer": {"NATSC_COVERAGE": "fuzzer"},
}
SUFFIXES = {".py", ".pyx", ".pxd", ".pyi"}
BUILD_TIMEOUT_S = 1800


def copy_sources(into: Path) -> None:
    """natsc/ and setup.py, without anything built; what is the same stays untouched, so its build stays valid."""
    wanted = {Path("setup.py")}
    wanted |= {p.relative_to(ROOT) for p in (ROOT / "natsc").rglob("*") if p.suffix in SUFFIXES}
    for name in wanted:
        target = into / name
        text = (ROOT / name).read_bytes()
        if not target.exists() or target.read_bytes() != text:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(text)
    for old in (into / "natsc").rglob("*"):
        if old.suffix in SUFFIXES and old.relative_to(into) not in wanted:
            old.unlink()


def compile_in(into: Path, variant: str) -> None:
    """Compile what changed in a copied tree. Raises CalledProcessError with the compiler's output in its text."""
    environment = {**os.environ, "NATSC_MODULES": MODULES, **ENVIRONMENTS[variant]}
    command = ["nice", sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    done = subprocess.run(command, cwd=into, env=environment, capture_output=True, text=True, timeout=BUILD_TIMEOUT_S)
    if done.returncode:
        sys.stderr.write(done.stdout + done.stderr)
        done.check_returncode()


def build(variant: str, into: Path | None = None) -> Path:
    """The directory with this variant, built where it isn't yet."""
    into = into or VARIANTS / variant
    copy_sources(into)
    compile_in(into, variant)
    return into


def sanitizer_environment() -> dict[str, str]:
    """What a process needs to run a sanitized build: the runtime first, Python's own allocator out of the way.

    Leaks are not looked for: the interpreter itself leaves much behind at its end.
    """
    runtimes = [
        subprocess.run(["gcc", f"-print-file-name={name}"], capture_output=True, text=True, check=True).stdout.strip()
        for name in ("libasan.so", "libubsan.so")
    ]
    return {
        "LD_PRELOAD": " ".join(runtimes),
        "PYTHONMALLOC": "malloc",
        "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=1:detect_stack_use_after_return=1",
        "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
    }


def run_tests(variant: str, into: Path, arguments: list[str]) -> int:
    """tests/engine on this build."""
    environment = {**os.environ, "PYTHONPATH": str(into)}
    if variant == "sanitize":
        environment |= sanitizer_environment()
    command = ["nice", sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(ROOT / "tests" / "engine")]
    return subprocess.run([*command, "--timeout=600", *arguments], cwd=into, env=environment, check=False).returncode


def line_coverage(into: Path, names: tuple[str, ...] = ()) -> dict[str, tuple[int, int, list[str]]]:
    """Per source file: lines reached, lines that could be, and those missed, as "<line>: <text>". From gcov.

    Cython writes a comment with the source line above the C lines that it makes from it. A line counts as reached if
    one of those is. What stands outside functions and lines that only declare aren't counted.
    """
    reached: dict[str, dict[int, bool]] = {}
    for data in sorted(into.glob("build/temp*/natsc/**/*.gcda")):
        done = subprocess.run(["gcov", "-t", data], cwd=into, capture_output=True, text=True, check=True)
        lines: dict[int, bool] = {}
        at = 0
        for line in done.stdout.splitlines():
            match = re.match(r" *([^:]+): *(\d+):(.*)", line)
            if match is None:
                continue
            count, text = match.group(1), match.group(3)
            comment = re.match(r'\s*/\* "(natsc/[^"]+)":(\d+)', text)
            if comment:
                lines, at = reached.setdefault(comment.group(1), {}), int(comment.group(2))
            elif text.startswith(("Source:", "  /* function exit code */")):
                at = 0
            elif at and count != "-":
                lines[at] = lines.get(at, False) or not count.startswith(("#", "="))
    coverage = {}
    for name, lines in sorted(reached.items()):
        if not names or name in names:
            source = (into / name).read_text().splitlines()
            code = {n: hit for n, hit in lines.items() if is_code(source[n - 1])}
            missed = [f"{n}: {source[n - 1].strip()}" for n, hit in sorted(code.items()) if not hit]
            if not code:
                continue
            coverage[name] = (sum(code.values()), len(code), missed)
    return coverage


def is_code(text: str) -> bool:
    """Whether a line is one that runs within a function."""
    return text.startswith(" ") and not re.match(
        r"\s*(cdef [^=#]*(#.*)?$|def |cimport |from |import |class |#|@)", text
    )


def forget_coverage(into: Path) -> None:
    for data in into.glob("build/temp*/natsc/**/*.gcda"):
        data.unlink()


def print_coverage(coverage: dict[str, tuple[int, int, list[str]]]) -> None:
    for name, (hit, total, missed) in coverage.items():
        print(f"{name}: {hit} of {total} lines, {100 * hit / total:.1f} %")
        for line in missed:
            print(f"    missed {line}")


def main() -> int:
    parser = argparse.ArgumentParser(description="builds of the compiled modules for tests", allow_abbrev=False)
    parser.add_argument("variant", choices=ENVIRONMENTS)
    parser.add_argument("--into", type=Path, help="the directory; build/variants/<variant> without it")
    parser.add_argument("--test", action="store_true", help="run tests/engine on it; more arguments go to pytest")
    args, rest = parser.parse_known_args()
    into = build(args.variant, args.into)
    print(into)
    if not args.test:
        return 0
    if args.variant == "lines":
        forget_coverage(into)
    code = run_tests(args.variant, into, rest)
    if args.variant == "lines":
        print_coverage(line_coverage(into))
    return code


if __name__ == "__main__":
    sys.exit(main())
