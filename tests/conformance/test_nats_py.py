"""The official Python client against the server: what an application does first."""

from __future__ import annotations

import asyncio

import nats
import pytest
from nats.errors import NoRespondersError
from nats.errors import TimeoutError as NatsTimeoutError


def run(body, server, **options):
    """Connect nats-py, run the coroutine with the connection, close; bounded in time."""

    async def main():
        connection = await nats.connect(server.url, allow_reconnect=False, **options)
        try:
            return await body(connection)
        finally:
            await connection.close()

    return asyncio.run(asyncio.wait_for(main(), 20))


class TestMessaging:
    def test_publish_and_subscribe(self, server):
        async def body(nc):
            sub = await nc.subscribe("py.foo")
            await nc.publish("py.foo", b"hello")
            msg = await sub.next_msg(5)
            return msg.subject, msg.data, msg.reply

        assert run(body, server) == ("py.foo", b"hello", "")

    def test_wildcards(self, server):
        async def body(nc):
            star, full = await nc.subscribe("py.*.x"), await nc.subscribe("py.>")
            for subject in ("py.a.x", "py.a.y", "py.b.x"):
                await nc.publish(subject, b"")
            await nc.flush()
            return [(await star.next_msg(5)).subject for _ in range(2)], [
                (await full.next_msg(5)).subject for _ in range(3)
            ]

        assert run(body, server) == (["py.a.x", "py.b.x"], ["py.a.x", "py.a.y", "py.b.x"])

    def test_queue_group(self, server):
        async def body(nc):
            counts = [0, 0, 0]

            def member(i):
                async def got(_msg):
                    counts[i] += 1

                return got

            for i in range(3):
                await nc.subscribe("py.q", queue="workers", cb=member(i))
            for _ in range(300):
                await nc.publish("py.q", b"")
            await nc.flush()
            while sum(counts) < 300:
                await asyncio.sleep(0)
            await nc.flush()
            return counts

        counts = run(body, server)
        assert sum(counts) == 300 and min(counts) > 30

    def test_request_and_reply(self, server):
        async def body(nc):
            async def serve(msg):
                await msg.respond(msg.data.upper())

            await nc.subscribe("py.svc", cb=serve)
            return (await nc.request("py.svc", b"hello", timeout=5)).data

        assert run(body, server) == b"HELLO"

    def test_no_responders(self, server):
        async def body(nc):
            await nc.request("py.nobody", b"", timeout=5)

        with pytest.raises(NoRespondersError):
            run(body, server)

    def test_headers(self, server):
        async def body(nc):
            sub = await nc.subscribe("py.headers")
            await nc.publish("py.headers", b"x", headers={"Key": "value", "Other": "two words"})
            msg = await sub.next_msg(5)
            return msg.headers, msg.data

        assert run(body, server) == ({"Key": "value", "Other": "two words"}, b"x")

    def test_auto_unsubscribe(self, server):
        async def body(nc):
            sub = await nc.subscribe("py.auto")
            await sub.unsubscribe(limit=2)
            for i in range(4):
                await nc.publish("py.auto", str(i).encode())
            await nc.flush()
            return [(await sub.next_msg(5)).data for _ in range(2)], sub.delivered

        assert run(body, server)[0] == [b"0", b"1"]

    def test_large_payloads(self, server):
        async def body(nc):
            sub = await nc.subscribe("py.large")
            payload = bytes(range(256)) * 4096
            await nc.publish("py.large", payload)
            return (await sub.next_msg(10)).data == payload

        assert run(body, server) is True

    def test_drain_subscription(self, server):
        async def body(nc):
            got = []

            async def slow(msg):
                await asyncio.sleep(0.001)
                got.append(msg.data)

            sub = await nc.subscribe("py.drain", cb=slow)
            for i in range(100):
                await nc.publish("py.drain", str(i).encode())
            await nc.flush()
            await sub.drain()
            return got

        assert run(body, server) == [str(i).encode() for i in range(100)]

    def test_drain_connection(self, server):
        async def body(nc):
            got = []

            async def take(msg):
                got.append(msg.data)

            await nc.subscribe("py.drain.all", cb=take)
            for i in range(100):
                await nc.publish("py.drain.all", str(i).encode())
            await nc.drain()
            return len(got), nc.is_closed

        assert run(body, server) == (100, True)

    def test_rtt(self, server):
        async def body(nc):
            return await nc.rtt()

        assert run(body, server) >= 0


class TestConnection:
    def test_server_info(self, server):
        async def body(nc):
            return nc.max_payload, nc.connected_server_version.patch, nc.client_id > 0

        assert run(body, server) == (1048576, 1, True)

    def test_user_and_password(self, shared_server):
        async def body(nc):
            await nc.flush()
            return True

        assert run(body, shared_server('authorization { user: u, password: "p" }'), user="u", password="p")

    def test_token(self, shared_server):
        async def body(nc):
            await nc.flush()
            return True

        assert run(body, shared_server("authorization { token: t }"), token="t")

    def test_wrong_password(self, shared_server):
        async def body(nc):
            return None

        with pytest.raises(nats.errors.Error, match=r"(?i)authorization violation"):
            run(body, shared_server('authorization { user: u, password: "p" }'), user="u", password="x")

    def test_tls(self, shared_server, certificates):
        async def body(nc):
            await nc.flush()
            return True

        context = certificates.client_context()
        assert run(body, shared_server(certificates.config()), tls=context, tls_hostname="localhost")

    def test_permission_error_is_reported(self, shared_server):
        server = shared_server('authorization { users [{user: u, password: "p", permissions {publish: ok}}] }')
        errors = []
        told = asyncio.Event()

        async def on_error(error):
            errors.append(str(error))
            told.set()

        async def body(nc):
            await nc.publish("no", b"")
            await asyncio.wait_for(told.wait(), 10)

        run(body, server, user="u", password="p", error_cb=on_error)
        assert errors and 'permissions violation for publish to "no"' in errors[0].lower()

    def test_no_echo(self, server):
        async def body(nc):
            sub = await nc.subscribe("py.echo")
            await nc.publish("py.echo", b"")
            await nc.flush()
            try:
                await sub.next_msg(0.05)
            except NatsTimeoutError:
                return None
            return "echoed"

        assert run(body, server, no_echo=True) is None

    def test_closed_by_shutdown(self, start):
        server = start()
        gone = []

        async def on_disconnect():
            gone.append(True)

        async def body(nc):
            server.process.terminate()
            while not gone:
                await asyncio.sleep(0.005)

        run(body, server, disconnected_cb=on_disconnect)
        assert gone
