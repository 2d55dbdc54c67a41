"""The socket that the server listens on."""

import socket

from millstream.server.launch import listen


def test_the_parts_of_an_answer_do_not_wait_for_each_other_on_any_event_loop() -> None:
    with listen("127.0.0.1", 0) as listening, socket.create_connection(listening.getsockname()):
        connection, _ = listening.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
