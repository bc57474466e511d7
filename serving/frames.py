"""What errors keep alive."""


def release_frames(error: BaseException) -> None:
    """Lets go of the frames that an error, and those behind it, came through.

    An error that is caught in a frame that it came through, or that gRPC keeps with its call, is in
    a cycle with what its frames name: a whole version of the bundle, sometimes, until the garbage
    collector comes. To be called once the error was told; its trace cannot be looked into then. The
    frames themselves are left as they are: several calls may have been failed with one error, and
    to clear the frame of one that is still told of it would end that call.
    """
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is not None and id(one) not in seen:
            seen.add(id(one))
            one.__traceback__ = None
            waiting += [one.__cause__, one.__context__]
