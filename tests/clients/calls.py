"""Calls of tools by the official clients. The demo model has learnt no tools: with a call that is demanded its answer is kept to one by
a grammar, so that all that clients do with calls is done."""

import asyncio
import json
from typing import Literal

from pydantic import BaseModel

SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 12}, "days": {"type": "integer", "minimum": 1, "maximum": 9}},
    "required": ["city", "days"],
    "additionalProperties": False,
}
DESCRIPTION = "The weather."
ASK = [{"role": "user", "content": "How is the weather?"}]


class Weather(BaseModel):
    """The weather."""

    unit: Literal["c", "f"]
    days: Literal[1, 2, 3]


class Sky(BaseModel):
    """The sky."""

    colour: Literal["blue", "grey"]


def fits(arguments):
    return set(arguments) == {"city", "days"} and isinstance(arguments["city"], str) and arguments["days"] in range(1, 10)


def openai_python(server, key, check):
    import openai

    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0)
    tools = [{"type": "function", "function": {"name": "get_weather", "description": DESCRIPTION, "parameters": SCHEMA}}]
    settings = dict(model="demo", messages=ASK, tools=tools, temperature=0.8, seed=3)
    whole = client.chat.completions.create(**settings, tool_choice="required", parallel_tool_calls=False)
    choice = whole.choices[0]
    calls = choice.message.tool_calls or []
    check("openai: a call is demanded", choice.finish_reason == "tool_calls" and len(calls) == 1, whole)
    arguments = calls[0].function.arguments
    check("openai: its arguments keep to the schema", calls[0].function.name == "get_weather" and fits(json.loads(arguments)), whole)
    named = {"type": "function", "function": {"name": "get_weather"}}
    with client.chat.completions.stream(**settings, tool_choice=named, parallel_tool_calls=False) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion().choices[0].message.tool_calls
    check("openai: a call by its name, as a stream", final[0].function.arguments == arguments, (final, arguments))
    check("openai: the stream's events", {"tool_calls.function.arguments.delta", "tool_calls.function.arguments.done"} <= kinds, kinds)
    result = {"role": "tool", "tool_call_id": calls[0].id, "content": "sun"}
    after = client.chat.completions.create(model="demo", messages=[*ASK, choice.message, result], tools=tools, max_tokens=8)
    check("openai: the result is told", after.choices[0].finish_reason in ("length", "stop", "tool_calls"), after)
    several = client.chat.completions.create(**settings, tool_choice="required")
    ids = [call.id for call in several.choices[0].message.tool_calls]
    check("openai: several calls", len(set(ids)) == len(ids) > 0, several)
    parsed = client.chat.completions.parse(
        model="demo", messages=ASK, tools=[openai.pydantic_function_tool(Weather)], tool_choice="required", parallel_tool_calls=False
    )
    call = parsed.choices[0].message.tool_calls[0].function.parsed_arguments
    check("openai: a call is parsed", isinstance(call, Weather), parsed)
    either = dict(model="demo", messages=ASK, tools=[openai.pydantic_function_tool(Weather)], parallel_tool_calls=False, temperature=1)
    for seed in range(3):
        message = client.chat.completions.parse(**either, response_format=Sky, seed=seed).choices[0].message
        called = message.tool_calls and isinstance(message.tool_calls[0].function.parsed_arguments, Weather)
        check("openai: an answer of a shape, or a call", called or isinstance(message.parsed, Sky), message)
    with client.chat.completions.stream(**either, response_format=Sky, seed=1) as stream:
        message = stream.get_final_completion().choices[0].message
    called = message.tool_calls and isinstance(message.tool_calls[0].function.parsed_arguments, Weather)
    check("openai: the same as a stream", called or isinstance(message.parsed, Sky), message)
    demanded = client.chat.completions.parse(**either, response_format=Sky, tool_choice="required").choices[0].message
    check("openai: a call demanded where a shape is", isinstance(demanded.tool_calls[0].function.parsed_arguments, Weather), demanded)
    free = client.chat.completions.create(**settings, max_tokens=12)
    plain = list(client.chat.completions.create(**settings, max_tokens=12, stream=True))
    text = "".join(piece.choices[0].delta.content or "" for piece in plain if piece.choices)
    check("openai: tools that are not called", (free.choices[0].message.content or "") == text, (free, text))

    flat = [{"type": "function", "name": "get_weather", "description": DESCRIPTION, "parameters": SCHEMA, "strict": True}]
    asked = dict(model="demo", input="How is the weather?", tools=flat, tool_choice="required", parallel_tool_calls=False)
    response = client.responses.create(**asked, temperature=0)
    item = response.output[0]
    check("openai: responses call", item.type == "function_call" and fits(json.loads(item.arguments)), response)
    with client.responses.stream(**asked, temperature=0) as events:
        kinds = [event.type for event in events]
        final = events.get_final_response()
    check("openai: responses call in a stream", final.output[0].arguments == item.arguments, final)
    check("openai: responses' events of a call", "response.function_call_arguments.done" in kinds, kinds)
    told = [{"role": "user", "content": "How?"}, item, {"type": "function_call_output", "call_id": item.call_id, "output": "sun"}]
    after = client.responses.create(model="demo", input=told, tools=flat, max_output_tokens=8)
    check("openai: responses are told the result", after.status in ("completed", "incomplete"), after)


def anthropic_python(server, key, check):
    import anthropic

    client = anthropic.Anthropic(base_url=server.url, api_key=key, max_retries=0)
    tools = [{"name": "get_weather", "description": DESCRIPTION, "input_schema": SCHEMA}]
    one = {"type": "any", "disable_parallel_tool_use": True}
    asked = dict(model="demo", max_tokens=200, messages=ASK, tools=tools, tool_choice=one, extra_body={"temperature": 0})
    message = client.messages.create(**asked)
    block = message.content[0]
    check("anthropic: a call is demanded", message.stop_reason == "tool_use" and block.type == "tool_use" and fits(block.input), message)
    with client.messages.stream(**asked) as stream:
        partial = "".join(event.partial_json for event in stream if event.type == "input_json")
        final = stream.get_final_message().content[0]
    check("anthropic: a call in a stream", json.loads(partial) == block.input == final.input, partial)
    raw = list(client.messages.create(**asked, stream=True))
    deltas = [event.delta.type for event in raw if event.type == "content_block_delta"]
    check("anthropic: its arguments come in parts", deltas and set(deltas) == {"input_json_delta"}, deltas)
    named = client.messages.create(**(asked | {"tool_choice": {"type": "tool", "name": "get_weather"}}))
    check("anthropic: a call by its name", named.content[0].name == "get_weather", named)
    result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": block.id, "content": "sun"}]}
    told = [*ASK, {"role": "assistant", "content": message.content}, result]
    after = client.messages.create(**(asked | {"messages": told, "max_tokens": 8, "tool_choice": {"type": "auto"}}))
    check("anthropic: the result is told", bool(after.content), after)


def langchain_openai(server, key, check):
    import openai
    from langchain_core.messages import HumanMessage, ToolMessage
    from langchain_core.tools import tool
    from langchain_openai import ChatOpenAI

    @tool
    def get_weather(unit: Literal["c", "f"], days: Literal[1, 2, 3]) -> str:
        """The weather."""
        return f"{days} days of sun, {unit}"

    chat = ChatOpenAI(model="demo", temperature=0, base_url=f"{server.url}/v1", api_key=key, max_retries=0)
    bound = chat.bind_tools([get_weather], tool_choice="any", parallel_tool_calls=False)
    answer = bound.invoke(ASK)
    good = len(answer.tool_calls) == 1 and not answer.invalid_tool_calls
    check("langchain: a tool is called", good and answer.tool_calls[0]["args"]["days"] in (1, 2, 3), answer)
    chunks = list(bound.stream(ASK))
    joined = chunks[0]
    for chunk in chunks[1:]:
        joined += chunk
    check("langchain: a call in a stream", joined.tool_calls[0]["args"] == answer.tool_calls[0]["args"], joined)
    result = get_weather.invoke(answer.tool_calls[0])
    check("langchain: its result", isinstance(result, ToolMessage) and "sun" in result.content, result)
    after = chat.bind_tools([get_weather]).bind(max_tokens=8).invoke([HumanMessage("How is it?"), answer, result])
    check("langchain: the result is told", after is not None, after)
    for method in ["function_calling", "json_schema"]:
        asked = chat.with_structured_output(Weather, method=method, include_raw=True)
        told = asked.invoke("How is the weather?")
        check(f"langchain: structured output by {method}", isinstance(told["parsed"], Weather), told)
        last = list(asked.stream("How is the weather?"))
        check(f"langchain: structured output by {method} in a stream", any("parsed" in part for part in last), last)
    try:
        told = chat.with_structured_output(None, method="json_mode", include_raw=True).invoke("JSON, please.")["raw"].content
    except openai.LengthFinishReasonError as error:
        # The demo finds no end of it.
        told = error.completion.choices[0].message.content
    check("langchain: structured output by json_mode", told.startswith("{"), told)


def pydantic_ai(server, key, check):
    from pydantic_ai import Agent, NativeOutput, ToolOutput, UsageLimitExceeded, UsageLimits
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    model = OpenAIChatModel("demo", provider=OpenAIProvider(base_url=f"{server.url}/v1", api_key=key))
    agent = Agent(model, output_type=ToolOutput(Weather), model_settings={"temperature": 0, "parallel_tool_calls": False})
    result = agent.run_sync("How is the weather?")
    check("pydantic-ai: an output by a call", isinstance(result.output, Weather), result)
    agent = Agent(model, output_type=NativeOutput(Sky), model_settings={"temperature": 0, "parallel_tool_calls": False})
    result = agent.run_sync("How is the sky?")
    check("pydantic-ai: an output by a schema", isinstance(result.output, Sky), result)

    called = []
    agent = Agent(model, output_type=ToolOutput(Sky), model_settings={"temperature": 1, "seed": 2, "parallel_tool_calls": False})

    @agent.tool_plain
    def get_weather(unit: Literal["c", "f"]) -> str:
        """The weather."""
        called.append(unit)
        return "sun"

    try:
        result = agent.run_sync("How is it?", usage_limits=UsageLimits(request_limit=12))
        check("pydantic-ai: a tool and an output", isinstance(result.output, Sky), result)
    except UsageLimitExceeded:
        check("pydantic-ai: a tool and an output", bool(called), called)


def ollama_python(server, key, check):
    import ollama

    client = ollama.Client(host=server.url, headers={"Authorization": f"Bearer {key}"})

    def get_weather(city: str, days: int) -> str:
        """The weather.

        Args:
            city: Where.
            days: For how long.
        """
        return "sun"

    asked = dict(model="demo", messages=ASK, tools=[get_weather], options={"temperature": 0, "num_predict": 12})
    whole = client.chat(**asked)
    streamed = list(client.chat(**asked, stream=True))
    text = "".join(part.message.content or "" for part in streamed)
    check("ollama: tools are declared", whole.done and text == (whole.message.content or ""), (whole, text))
    function = {"name": "get_weather", "arguments": {"city": "Lima", "days": 3}}
    told = [*ASK, {"role": "assistant", "content": "", "tool_calls": [{"function": function}]}, {"role": "tool", "tool_name": "get_weather", "content": "sun"}]
    after = client.chat(**(asked | {"messages": told}))
    check("ollama: the result is told", after.done, after)
    weather = {"type": "function", "function": {"name": "get_weather", "parameters": Weather.model_json_schema()}}
    shaped = client.chat(**(asked | {"tools": [weather], "options": {"temperature": 0}}), format=Sky.model_json_schema())
    good = bool(shaped.message.tool_calls) or isinstance(Sky.model_validate_json(shaped.message.content), Sky)
    check("ollama: an answer of a shape, or a call", good, shaped)


def openai_agents(server, key, check):
    from agents import Agent, ModelSettings, OpenAIChatCompletionsModel, OpenAIResponsesModel, Runner, function_tool
    from openai import AsyncOpenAI

    called = []

    @function_tool
    def get_weather(unit: Literal["c", "f"]) -> str:
        """The weather."""
        called.append(unit)
        return "sun"

    async def turns():
        client = AsyncOpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0)
        # A call is demanded in the first turn; after it the model says what it likes.
        settings = ModelSettings(tool_choice="required", parallel_tool_calls=False, temperature=0, extra_body={"stop": [" a ", " to ", " of ", " and ", "."]})
        for kind in (OpenAIResponsesModel, OpenAIChatCompletionsModel):
            model = kind(model="demo", openai_client=client)
            agent = Agent(name="A", instructions="Be brief.", model=model, model_settings=settings, tools=[get_weather])
            called.clear()
            result = await Runner.run(agent, "How is the weather?")
            check(f"openai-agents: {kind.__name__}", len(called) == 1 and isinstance(result.final_output, str), (called, result))
            called.clear()
            result = Runner.run_streamed(agent, "How is the weather?")
            kinds = {event.type async for event in result.stream_events()}
            check(f"openai-agents: {kind.__name__} in a stream", len(called) == 1 and "run_item_stream_event" in kinds, kinds)

    asyncio.run(turns())


CLIENTS = [openai_agents, openai_python, anthropic_python, ollama_python, langchain_openai, pydantic_ai]
