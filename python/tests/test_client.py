"""The client against a real node. `VYR_BIN` names the binary; the node is started here."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import select
import subprocess
import tempfile
import time
import unittest
from typing import Any, Iterator, List, Optional

import vyr

ROOT = pathlib.Path(os.environ["VYR_ROOT"])
BINARY = os.environ["VYR_BIN"]
HANG = 120


class Node:
    """`vyr up` on a data directory of its own, which trusts one key."""

    def __init__(self) -> None:
        self.place = tempfile.TemporaryDirectory()
        self.data = pathlib.Path(self.place.name) / "data"
        self.run("key", "new", "ana")
        self.run("key", "trust", "ana", "--principal", "ana@example.org")
        self.process = subprocess.Popen(
            [BINARY, "--data-dir", str(self.data), "up"],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        assert self.process.stderr is not None
        said = b""
        deadline = time.monotonic() + HANG
        while b"ready on" not in said:
            left = deadline - time.monotonic()
            ready, _, _ = select.select([self.process.stderr], [], [], max(left, 0))
            piece = os.read(self.process.stderr.fileno(), 4096) if ready else b""
            if not piece:
                self.end()
                raise AssertionError(f"vyr up did not become ready: {said!r}")
            said += piece

    def run(self, *arguments: str, data: Optional[pathlib.Path] = None) -> str:
        command = [BINARY, "--data-dir", str(data or self.data), *arguments]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=HANG)
        if done.returncode != 0:
            raise AssertionError(f"{command}: {done.stderr.decode()}")
        return done.stdout.decode().strip()

    def draft(self, name: str, *args: str) -> str:
        """A guest with arguments, built and signed, not put yet; its digest."""
        wasm = ROOT / "workloads" / "bin" / f"{name}.wasip1.wasm"
        digest = self.run("artifact", "build", str(wasm), "--name", name, *args)
        self.run("artifact", "sign", digest, "--key", str(self.data / "keys" / "ana"))
        return digest

    def put(self, name: str, *args: str) -> str:
        digest = self.draft(name, *args)
        self.run("artifact", "put", digest)
        return digest

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()
        self.place.cleanup()


class ClientTest(unittest.TestCase):
    node: Node

    @classmethod
    def setUpClass(cls) -> None:
        cls.node = Node()
        cls.echo = cls.node.put("probe", "--arg", "echo")
        cls.spin = cls.node.put("probe", "--arg", "spin")

    @classmethod
    def tearDownClass(cls) -> None:
        cls.node.end()

    def setUp(self) -> None:
        self.client = vyr.Client(str(self.node.data / "run" / "operator.sock"))
        self.addCleanup(self.client.close)

    def test_the_example_of_the_readme_works(self) -> None:
        text = (ROOT / "python" / "README.md").read_text()
        example = text.split("```python\n")[1].split("```")[0]
        self.assertLessEqual(len(example.strip().splitlines()), 10)
        os.environ["VYR_DATA_DIR"] = str(self.node.data)
        self.addCleanup(os.environ.pop, "VYR_DATA_DIR")
        said: List[str] = []

        def say(*words: object) -> None:
            said.append(" ".join(map(str, words)))

        names = {"ARTIFACT": self.echo, "print": say}
        exec(compile(example, "README.md", "exec"), names)
        self.assertTrue(said)

    def test_a_task_leaves_output_log_and_receipt(self) -> None:
        task = self.client.submit(self.echo, b"hello")
        end = task.wait(timeout=HANG)
        self.assertTrue(end.ok, end)
        self.assertEqual((end.exit_code, end.signer), (0, "ana@example.org"))
        self.assertEqual(end.output_digest, vyr.digest_of(b"hello"))
        self.assertEqual((task.output(), task.log()), (b"hello", b""))
        self.assertEqual(self.client.read_blob(end.output_digest), b"hello")
        self.assertIn(b'"task.ended"', task.receipt())

    def test_a_key_gives_the_same_task_and_no_other(self) -> None:
        first = self.client.submit(self.echo, b"a", key="k")
        self.assertEqual(self.client.submit(self.echo, b"a", key="k"), first)
        with self.assertRaises(vyr.Conflict) as raised:
            self.client.submit(self.echo, b"b", key="k")
        self.assertIn(first.task_id, raised.exception.message)
        self.assertTrue(raised.exception.hint)
        self.assertFalse(raised.exception.retryable)

    def test_many_tasks_go_over_one_stream_and_refusals_are_answers(self) -> None:
        count = 500
        taken: List[int] = []

        def tasks() -> Iterator[vyr.Submission]:
            for n in range(count):
                taken.append(n)
                artifact = "sha256:short" if n % 100 == 99 else self.echo
                yield vyr.Submission(artifact, str(n).encode())

        answers = []
        for n, answer in enumerate(self.client.submit_many(tasks(), window=16)):
            self.assertLessEqual(len(taken), n + 1 + 16 + 1)
            answers.append(answer)
        self.assertEqual(len(answers), count)
        for n, answer in enumerate(answers):
            if n % 100 == 99:
                self.assertIsInstance(answer, vyr.UsageError)
        last = answers[498]
        self.assertEqual(last.wait(HANG).output_digest, vyr.digest_of(b"498"))
        ids = [answer.task_id for answer in answers if isinstance(answer, vyr.Task)]
        ends = {span.task_id for span in self.client.traces(ids, terminal_only=True, timeout=HANG)}
        self.assertEqual(ends, set(ids))

    def test_a_source_of_tasks_that_breaks_is_not_silent(self) -> None:
        def tasks() -> Iterator[vyr.Submission]:
            yield vyr.Submission(self.echo)
            raise OSError("no more lines")

        answers = self.client.submit_many(tasks())
        self.assertIsInstance(next(answers), vyr.Task)
        with self.assertRaisesRegex(OSError, "no more lines"):
            next(answers)

    def test_who_stops_reading_answers_ends_the_stream(self) -> None:
        def tasks() -> Iterator[vyr.Submission]:
            while True:
                yield vyr.Submission(self.echo)

        answers = self.client.submit_many(tasks(), window=4)
        self.assertIsInstance(next(answers), vyr.Task)
        answers.close()

    def test_waiting_has_an_end_and_so_has_a_cancelled_task(self) -> None:
        task = self.client.submit(self.spin)
        with self.assertRaises(TimeoutError) as raised:
            task.wait(timeout=0.2)
        self.assertIsInstance(raised.exception, vyr.DeadlineExceeded)
        task.cancel()
        self.assertEqual(task.wait(HANG).state, "cancelled")
        self.assertEqual(task.cancel(), "cancelled")

    def test_limits_are_asked_for(self) -> None:
        resources = vyr.Resources(deadline_ms=50)
        end = self.client.submit(self.spin, resources=resources).wait(HANG)
        self.assertEqual((end.state, end.reason), ("failed", "deadline"))

    def test_large_inputs_go_through_the_store(self) -> None:
        large = bytes(1 << 20)
        with self.assertRaises(vyr.UsageError) as raised:
            self.client.submit(self.echo, large[: (64 << 10) + 1])
        self.assertIn("input_digest", raised.exception.hint)
        digest = self.client.put_blob(large)
        self.assertEqual(digest, "sha256:" + hashlib.sha256(large).hexdigest())
        task = self.client.submit(self.echo, digest)
        self.assertTrue(task.wait(HANG).ok)
        self.assertEqual(task.output(), large)

    def test_states_are_bound_at_the_start_or_later(self) -> None:
        steps = ["--arg", "write /state/notes/a b", "--arg", "read /state/notes/a"]
        artifact = self.node.put("states", *steps, "--state", "notes")
        state = self.client.create_state("notes")
        self.assertTrue(self.client.submit(artifact, states=[(state, "rw")]).wait(HANG).ok)
        task = self.client.submit(artifact)
        self.client.bind_state(task, self.client.create_state("notes"), "rw")
        self.assertTrue(task.wait(HANG).ok)
        self.assertIn(b"b", task.output())
        with self.assertRaises(vyr.NotFound):
            self.client.submit(artifact, states=[(state, "rw")])
        with self.assertRaises(ValueError):
            self.client.bind_state(task, state, "write")

    def test_an_artifact_is_put_over_the_api(self) -> None:
        digest = self.node.draft("hello")
        signature = self.node.run("artifact", "show", digest, "--signature")
        drafts = self.node.data / "drafts" / "blobs" / "sha256"

        def blob(of: str) -> bytes:
            return (drafts / of.split(":")[1]).read_bytes()

        manifest = blob(digest)
        names = [part["digest"] for part in _parts(manifest)]
        blobs = [blob(name) for name in names]
        with self.assertRaises(vyr.AuthError) as raised:
            self.client.put_artifact(manifest, b"", blobs)
        self.assertEqual(raised.exception.category, "auth")
        put = self.client.put_artifact(manifest, signature, blobs)
        self.assertEqual((put.digest, put.existed), (digest, False))
        self.assertTrue(self.client.put_artifact(manifest, signature, blobs).existed)
        self.assertEqual(self.client.submit(digest).wait(HANG).exit_code, 0)

    def test_traces_and_metrics(self) -> None:
        parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        metrics = self.client.metrics("vyr.tasks.", interval=0.1, timeout=HANG)
        first = next(metrics)
        self.assertFalse(first.delta)
        task = self.client.submit(self.echo, traceparent=parent)
        spans = list(self.client.traces([task], with_statement=True, timeout=HANG))
        self.assertEqual([span.name for span in spans], ["submit", "execute", "complete"])
        self.assertEqual({span.trace_id for span in spans}, {parent.split("-")[1]})
        self.assertEqual(spans[0].parent_span_id, parent.split("-")[2])
        assert spans[2].end is not None
        self.assertEqual(spans[2].end.receipt_digest, vyr.digest_of(spans[2].end.statement))
        accepted = "vyr.tasks.accepted"
        for later in metrics:
            self.assertTrue(later.delta)
            if accepted in later.values:
                self.assertGreater(later.values[accepted], first.values[accepted])
                break
        metrics.close()

    def test_refusals_have_classes(self) -> None:
        with self.assertRaises(vyr.NotFound):
            self.client.submit(vyr.digest_of(b"nobody signed this"))
        with self.assertRaises(vyr.UsageError):
            self.client.cancel("not-a-task")
        image = (
            b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",'
            b'"config":{"mediaType":"application/vnd.oci.image.config.v1+json"},"layers":[]}'
        )
        with self.assertRaises(vyr.UnsupportedArtifact) as raised:
            self.client.submit(self.client.put_blob(image))
        self.assertEqual(raised.exception.category, "unsupported_artifact")
        with vyr.Client(self.node.place.name + "/nobody.sock", timeout=5) as nobody:
            with self.assertRaises(vyr.Transient) as away:
                nobody.cancel("x")
        self.assertTrue(away.exception.retryable)
        with vyr.Client(str(self.node.data / "run" / "control.sock")) as control:
            task = control.submit(self.echo)
            task.wait(HANG)
            with self.assertRaises(vyr.UsageError):
                task.output()

    def test_a_network_target_needs_certificates(self) -> None:
        with self.assertRaises(ValueError):
            vyr.Client("node.example.org:7443")


def _parts(manifest: bytes) -> List[Any]:
    read = json.loads(manifest)
    return [read["config"], *read["layers"]]


if __name__ == "__main__":
    unittest.main()
