"""Things that happen to processes and to the launch itself."""


class Shutdown:
    def __init__(self, *, reason="reason not given", due_to_sigint=False):
        self.reason, self.due_to_sigint = reason, due_to_sigint


class ProcessExited:
    def __init__(self, *, action, name, pid, returncode):
        self.action, self.process_name, self.pid, self.returncode = action, name, pid, returncode
