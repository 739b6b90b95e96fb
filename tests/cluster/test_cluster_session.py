"""A client that is told of a primary which is not there, by a node that is: it stays and asks again."""

from __future__ import annotations

import socket
import threading

import pytest

from tests.cluster.groups import free_port
from veritydb import kernel
from veritydb.cluster.config import Address
from veritydb.cluster.session import Group, Session
from veritydb.vsr.messages import Evicted, FetchedRecords, FetchRecords, ReadReply, Redirect, Reply
from veritydb.vsr.wire import FRAME_SIZE, Wire, derive_keys, message_size

CLUSTER = bytes(16)
KEYS = derive_keys(bytes(32))
GONE, ASKED = 1, 2
LATE = kernel.encode_reply(kernel.Registered(1))


class Plain:
    """In place of TLS."""

    def wrap_socket(self, plain):
        return plain


@pytest.fixture
def node():
    """A node that redirects a few times, and then answers; what it is asked, and on how many connections."""
    server = socket.create_server(("127.0.0.1", 0))
    told = {"to": [GONE, GONE, ASKED, ASKED, GONE], "questions": 0, "connections": 0}
    wire = Wire(cluster=CLUSTER, keys=KEYS, member=ASKED)

    def answer(connection):
        with connection, connection.makefile("rb") as stream:
            while frame := stream.read(FRAME_SIZE):
                question = wire.hear(frame + stream.read(message_size(frame)))
                told["questions"] += 1
                if isinstance(question, FetchRecords):
                    # The reply to a question of the same number, which was asked twice, comes late.
                    connection.sendall(wire.encode(Reply(question.client, 1, question.number, 1, LATE, 7)))
                    connection.sendall(wire.encode(Evicted(question.client, 1, 7)))
                    message = FetchedRecords(question.client, question.number, question.stream, True, 3, ())
                elif told["to"]:
                    message = Redirect(question.client, question.number, told["to"].pop(0), 7)
                else:
                    message = ReadReply(question.client, question.number, 9, True, 5, bytes(32), 7)
                connection.sendall(wire.encode(message))

    def serve():
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            told["connections"] += 1
            answer(connection)

    thread = threading.Thread(target=serve)
    thread.start()
    yield server.getsockname()[1], told
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join(10)


def test_a_late_answer_to_another_question_of_the_same_number_is_none(node):
    port, _ = node
    session = Session(Group(CLUSTER, {ASKED: Address("127.0.0.1", port)}, KEYS, Plain()))
    fetched = session.fetch(bytes(16), 0, bytes_max=1000, timeout=60)
    assert fetched.next_offset == 3
    session.close()


def test_who_is_told_of_a_primary_that_is_not_there_stays_with_who_told_and_asks_again(node):
    port, told = node
    members = {GONE: Address("127.0.0.1", free_port()), ASKED: Address("127.0.0.1", port)}
    session = Session(Group(CLUSTER, members, KEYS, Plain()))
    assert session.primary == GONE
    assert session.read_head(bytes(16), timeout=60) == (5, bytes(32))
    session.close()
    assert told["questions"] == 6
    assert told["connections"] == 1
    assert session.primary == ASKED
