from tests.netns.rooms import host
def test_x(): assert host("a").name == "a"
