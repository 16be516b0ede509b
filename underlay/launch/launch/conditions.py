from launch.core import text
from launch.substitutions import boolean


class IfCondition:
    def __init__(self, predicate_expression):
        self.predicate_expression = predicate_expression

    def evaluate(self, context):
        return boolean(text(context, self.predicate_expression))


class UnlessCondition(IfCondition):
    def evaluate(self, context):
        return not super().evaluate(context)


class LaunchConfigurationEquals:
    def __init__(self, launch_configuration_name, expected_value):
        self.name, self.expected_value = launch_configuration_name, expected_value

    def evaluate(self, context):
        return context.launch_configurations.get(text(context, self.name)) == text(context, self.expected_value)
