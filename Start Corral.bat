@echo off
rem Windows: double-click in the Explorer.
cd /d "%~dp0"
where py >nul 2>nul
if %errorlevel%==0 (
    py launcher.py %*
) else (
    python launcher.py %*
)
if not %errorlevel%==0 (
    echo.
    echo If Windows did not find Python: install it from https://www.python.org/downloads/
    pause
)
