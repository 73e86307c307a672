"""Workflow dialects compiled to one graph, and the expression language."""

from handrail_graph.build import MAX_STEPS
from handrail_graph.conversion import DIALECTS, convert
from handrail_graph.dialects import compile_workflow, may_have_trigger, trigger_of
from handrail_graph.expressions import ExpressionError, compile_expression, user_input
from handrail_graph.graph import (
    CHOOSING,
    EDITABLE,
    WORK,
    AgentParameters,
    ApiCallParameters,
    ApprovalParameters,
    Concurrency,
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
from handrail_graph.places import downstream, unplaced, upstream
from handrail_graph.problems import DefinitionError, Problem
from handrail_graph.schemas import COMMON, PARAMETERS
from handrail_graph.suggestions import SuggestionRules
from handrail_graph.templates import Condition, Template, compile_condition, compile_template
from handrail_graph.terms import TaskTerms
from handrail_graph.timetables import TimetableError, next_due, upcoming
from handrail_graph.timetables import check as check_timetable

__all__ = [
    "CHOOSING",
    "COMMON",
    "DIALECTS",
    "EDITABLE",
    "MAX_STEPS",
    "PARAMETERS",
    "WORK",
    "AgentParameters",
    "ApiCallParameters",
    "ApprovalParameters",
    "Concurrency",
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
    "SuggestionRules",
    "SwitchParameters",
    "TaskTerms",
    "Template",
    "TimetableError",
    "ToolParameters",
    "TransformParameters",
    "TriggerParameters",
    "check_timetable",
    "compile_condition",
    "compile_expression",
    "compile_template",
    "compile_workflow",
    "convert",
    "downstream",
    "instance",
    "may_have_trigger",
    "next_due",
    "prefix_of",
    "trigger_of",
    "turn_of",
    "unplaced",
    "upcoming",
    "upstream",
    "user_input",
]
