"""What to do when something happens."""


def answers(on_exit, event, context):
    """The actions of an `on_exit`, as a list."""
    found = on_exit(event, context) if callable(on_exit) else on_exit
    if found is None:
        return []
    return list(found) if isinstance(found, (list, tuple)) else [found]


class OnProcessExit:
    """on_exit: actions, or a function of the event and the context that returns actions."""

    def __init__(self, *, target_action=None, on_exit=None):
        self.target_action, self.on_exit = target_action, on_exit

    def answer(self, event, context):
        """Entities to visit, if this event is one to answer."""
        if self.target_action not in (None, event.action):
            return []
        return answers(self.on_exit, event, context)
