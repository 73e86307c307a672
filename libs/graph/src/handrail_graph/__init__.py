"""Workflow dialects compiled to one graph, and the expression language."""

from handrail_graph.dialects import compile_workflow
from handrail_graph.expressions import ExpressionError, compile_expression
from handrail_graph.graph import (
    AgentParameters,
    ApiCallParameters,
    ApprovalParameters,
    ConditionParameters,
    DelayParameters,
    Graph,
    LoopParameters,
    Node,
    ParallelParameters,
    Parameters,
    Retry,
    SignalParameters,
    StepType,
    SubWorkflowParameters,
    SwitchParameters,
    ToolParameters,
    TransformParameters,
    TriggerParameters,
)
from handrail_graph.instances import instance, prefix_of, turn_of
from handrail_graph.places import unplaced
from handrail_graph.problems import DefinitionError, Problem
from handrail_graph.templates import Condition, Template, compile_condition, compile_template

__all__ = [
    "AgentParameters",
    "ApiCallParameters",
    "ApprovalParameters",
    "Condition",
    "ConditionParameters",
    "DefinitionError",
    "DelayParameters",
    "ExpressionError",
    "Graph",
    "LoopParameters",
    "Node",
    "ParallelParameters",
    "Parameters",
    "Problem",
    "Retry",
    "SignalParameters",
    "StepType",
    "SubWorkflowParameters",
    "SwitchParameters",
    "Template",
    "ToolParameters",
    "TransformParameters",
    "TriggerParameters",
    "compile_condition",
    "compile_expression",
    "compile_template",
    "compile_workflow",
    "instance",
    "prefix_of",
    "turn_of",
    "unplaced",
]
