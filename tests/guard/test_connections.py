"""Which connection has to go when there is no room."""

from __future__ import annotations

from proxy.guard import Connections


def waiting(*names: str, descriptors: int = 100) -> Connections[str]:
    connections: Connections[str] = Connections(descriptors)
    for name in names:
        connections.came(name)
    return connections


def test_none_has_to_go_while_there_is_room():
    assert waiting("a", "b").surplus(sessions=49, most=None) is None
    assert waiting("a", "b").surplus(sessions=0, most=2) is None


def test_the_one_that_has_waited_longest_has_to_go():
    connections = waiting("a", "b", "c")
    assert connections.surplus(sessions=0, most=2) == "a"
    connections.asking("a")
    connections.waits("a")
    assert connections.surplus(sessions=0, most=2) == "b"


def test_one_that_is_served_is_left_alone():
    connections = waiting("a", "b")
    connections.asking("a")
    assert connections.surplus(sessions=0, most=1) == "b"
    connections.asking("b")
    assert connections.surplus(sessions=0, most=1) is None


def test_sessions_and_requests_need_two_descriptors():
    connections = waiting("a", "b", descriptors=10)
    assert connections.surplus(sessions=4, most=None) is None
    assert connections.surplus(sessions=5, most=None) == "a"
    connections.asking("b")
    assert connections.surplus(sessions=4, most=None) == "a"


def test_one_that_is_gone_is_forgotten_whatever_is_said_of_it_later():
    connections = waiting("a", "b")
    connections.asking("a")
    connections.went("a")
    connections.waits("a")
    connections.asking("c")
    assert len(connections) == 1
    connections.went("b")
    connections.went("b")
    assert len(connections) == 0
    assert connections.surplus(sessions=100, most=None) is None
