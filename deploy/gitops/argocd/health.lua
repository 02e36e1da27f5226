-- Of a Launch, for Argo CD. Held and waiting for people is Suspended: nothing is broken, and only a person goes on.
local health = { status = "Progressing", message = "the controller has not looked at it yet" }
local status = obj.status
if status == nil or status.state == nil then
  return health
end
if (status.observedGeneration or 0) < (obj.metadata.generation or 0) then
  health.message = "the controller has not seen this edit yet"
  return health
end
local of_state = {
  Succeeded = "Healthy",
  Held = "Suspended",
  AwaitingApproval = "Suspended",
  RollingBack = "Degraded",
  RolledBack = "Degraded",
  Invalid = "Degraded",
}
health.status = of_state[status.state] or "Progressing"
health.message = status.message or status.state
return health
